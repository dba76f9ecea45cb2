//! Which kinds the API serves, and how each behaves where Kubernetes treats kinds differently.

/// One kind of object, under all the versions it is served in. All versions share one store; the API converts between
/// them by rewriting `apiVersion`, as the real server does for a CRD with conversion strategy `None`.
#[derive(Clone, Debug, PartialEq, Eq)]
#[allow(clippy::struct_excessive_bools)] // independent properties, each from the kind's own strategy in Kubernetes
pub struct Kind {
    /// API group, empty for the core group.
    pub group: String,
    /// Served versions, the storage version first. Never empty.
    pub versions: Vec<String>,
    /// The kind, `Rollout`.
    pub kind: String,
    /// The resource name in URLs, `rollouts`.
    pub plural: String,
    /// Whether objects live in a namespace.
    pub namespaced: bool,
    /// Whether there is a `status` subresource; if so, the main resource ignores `status` and the subresource all else.
    pub status: bool,
    /// Whether `metadata.generation` counts changes of the spec.
    pub generation: bool,
    /// Whether a replace without a resourceVersion is accepted (most built-in kinds) or refused with 422 (custom ones).
    pub unconditional_update: bool,
    /// Field selectors besides `metadata.name` and `metadata.namespace`, as dotted paths.
    pub selectable: Vec<String>,
    /// Short names for discovery.
    pub short_names: Vec<String>,
}

impl Kind {
    /// A kind as a CRD defines it: namespaced, with a status subresource and generation.
    pub fn custom(group: &str, versions: &[&str], kind: &str, plural: &str) -> Self {
        Self {
            group: group.into(),
            versions: versions.iter().map(ToString::to_string).collect(),
            kind: kind.into(),
            plural: plural.into(),
            namespaced: true,
            status: true,
            generation: true,
            unconditional_update: false,
            selectable: Vec::new(),
            short_names: Vec::new(),
        }
    }

    /// A kind that comes with Kubernetes: namespaced, without status and generation, replaced without a version.
    pub fn builtin(group: &str, version: &str, kind: &str, plural: &str) -> Self {
        Self {
            status: false,
            generation: false,
            unconditional_update: true,
            ..Self::custom(group, &[version], kind, plural)
        }
    }

    /// The same kind, not in a namespace.
    #[must_use]
    pub fn cluster_scoped(self) -> Self {
        Self { namespaced: false, ..self }
    }

    /// The same kind with or without a status subresource.
    #[must_use]
    pub fn with_status(self, status: bool) -> Self {
        Self { status, ..self }
    }

    /// The same kind with or without `metadata.generation`.
    #[must_use]
    pub fn with_generation(self, generation: bool) -> Self {
        Self { generation, ..self }
    }

    /// The same kind with or without unconditional replace.
    #[must_use]
    pub fn with_unconditional_update(self, unconditional_update: bool) -> Self {
        Self { unconditional_update, ..self }
    }

    /// The same kind with one more field selector.
    #[must_use]
    pub fn selectable_by(mut self, path: &str) -> Self {
        self.selectable.push(path.into());
        self
    }

    /// `group/version`, or the version alone in the core group.
    pub fn api_version(&self, version: &str) -> String {
        if self.group.is_empty() { version.into() } else { format!("{}/{version}", self.group) }
    }

    /// `plural.group`, as error messages name a resource.
    pub fn resource(&self) -> String {
        if self.group.is_empty() { self.plural.clone() } else { format!("{}.{}", self.plural, self.group) }
    }

    /// `Kind.group`, as validation messages name a kind.
    pub fn qualified(&self) -> String {
        if self.group.is_empty() { self.kind.clone() } else { format!("{}.{}", self.kind, self.group) }
    }

    /// The kinds every `Api` starts with: what Sluice watches and writes, and what stands around it.
    pub fn standard() -> Vec<Self> {
        let istio = ["v1", "v1beta1", "v1alpha3"];
        vec![
            Self::builtin("", "v1", "Namespace", "namespaces").cluster_scoped().with_status(true),
            Self::builtin("", "v1", "Service", "services").with_status(true),
            Self::builtin("", "v1", "Pod", "pods")
                .with_status(true)
                .with_generation(true)
                .selectable_by("spec.nodeName")
                .selectable_by("status.phase"),
            Self::builtin("", "v1", "ConfigMap", "configmaps"),
            Self::builtin("", "v1", "ServiceAccount", "serviceaccounts"),
            Self::builtin("discovery.k8s.io", "v1", "EndpointSlice", "endpointslices").with_generation(true),
            Self::builtin("events.k8s.io", "v1", "Event", "events")
                .selectable_by("reason")
                .selectable_by("type")
                .selectable_by("regarding.kind")
                .selectable_by("regarding.name")
                .selectable_by("regarding.namespace")
                .selectable_by("regarding.uid"),
            Self::builtin("coordination.k8s.io", "v1", "Lease", "leases").with_unconditional_update(false),
            Self::builtin("apps", "v1", "Deployment", "deployments").with_status(true).with_generation(true),
            Self::builtin(
                "apiextensions.k8s.io",
                "v1",
                "CustomResourceDefinition",
                "customresourcedefinitions",
            )
            .cluster_scoped()
            .with_status(true)
            .with_generation(true)
            .with_unconditional_update(false),
            Self::custom("sluice.dev", &["v1alpha1"], "Rollout", "rollouts"),
            Self::custom("sluice.dev", &["v1alpha1"], "RolloutAction", "rolloutactions"),
            Self::custom("sluice.dev", &["v1alpha1"], "Freeze", "freezes").with_status(false),
            Self::custom("networking.istio.io", &istio, "VirtualService", "virtualservices"),
            Self::custom("networking.istio.io", &istio, "DestinationRule", "destinationrules"),
            Self::custom("networking.istio.io", &istio, "Gateway", "gateways"),
            Self::custom(
                "machinelearning.seldon.io",
                &["v1", "v1alpha3", "v1alpha2"],
                "SeldonDeployment",
                "seldondeployments",
            ),
        ]
    }
}
