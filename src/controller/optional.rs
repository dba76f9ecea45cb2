//! Kinds that a cluster need not have. Whether it has them is asked once, at the start: the first list of a watch of
//! a kind that is not there would be waited for until it is.

use kube::{
    Api, Client, Resource,
    api::{ApiResource, DynamicObject, ListParams},
};

use super::Error;

/// Whether objects of a kind can be listed: it is there, and we may.
pub(super) async fn is_there<K>(client: &Client, namespace: Option<&str>) -> Result<bool, Error>
where
    K: Resource<DynamicType = ()>,
{
    let resource = ApiResource::erase::<K>(&());
    let api: Api<DynamicObject> = match namespace {
        Some(namespace) => Api::namespaced_with(client.clone(), namespace, &resource),
        None => Api::all_with(client.clone(), &resource),
    };
    match api.list_metadata(&ListParams::default().limit(1)).await {
        Ok(_) => Ok(true),
        Err(kube::Error::Api(status)) if status.code == 404 => Ok(false),
        Err(kube::Error::Api(status)) if status.code == 403 => {
            tracing::warn!(kind = resource.kind, error = status.message, "the kind is left alone");
            Ok(false)
        }
        Err(error) => Err(Error::from_kube(format!("listing {}", resource.plural), error)),
    }
}

/// A kind of Istio's that is read or written as it is.
pub(super) fn istio(kind: &str, plural: &str) -> ApiResource {
    let (group, version) = ("networking.istio.io".to_owned(), "v1".to_owned());
    ApiResource {
        api_version: format!("{group}/{version}"),
        group,
        version,
        kind: kind.to_owned(),
        plural: plural.to_owned(),
    }
}

/// Seldon Core's kind, read and written as it is.
pub(super) fn seldon() -> ApiResource {
    ApiResource::erase::<super::stores::SeldonObject>(&())
}

/// Whether an answer says that an object is not there, and not that its kind is not.
pub(super) fn object_is_missing(error: &Error, name: &str) -> bool {
    // The server names the object that it looked for.
    matches!(error, Error::Refused { code: 404, message, .. } if message.contains(&format!("{name:?}")))
}

/// Says that something cannot be checked for want of a right; what it is about goes on without.
pub(super) fn tell_of_missing_right(error: &Error) {
    if matches!(error, Error::Refused { code: 403, .. }) {
        tracing::warn!(%error, "it cannot be told whether it is there");
    }
}
