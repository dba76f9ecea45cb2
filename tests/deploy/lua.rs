//! Argo CD's health checks, run as it runs them. For the tests of `deploy/`, and for those that have statuses as the
//! controller writes them.

use std::{fs, path::Path};

use mlua::{Lua, LuaOptions, LuaSerdeExt, SerializeOptions, StdLib};
use serde::Deserialize;
use serde_json::Value;

/// What Argo CD makes of an object.
#[derive(Debug, Deserialize, PartialEq)]
pub struct Health {
    pub status: String,
    pub message: String,
}

/// Runs the check of a kind as Argo CD does: the object is `obj`, and there are no libraries but the basic one. Its
/// interpreter is one of Lua 5.1.
pub fn health(kind: &str, object: &Value) -> Health {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("deploy/argocd/health.yaml");
    let config: Value = serde_saphyr::from_str(&fs::read_to_string(path).unwrap()).unwrap();
    let script = config["data"][format!("resource.customizations.health.sluice.dev_{kind}")].clone();
    let lua = Lua::new_with(StdLib::NONE, LuaOptions::default()).unwrap();
    let options = SerializeOptions::new().serialize_none_to_null(false).serialize_unit_to_null(false);
    lua.globals().set("obj", lua.to_value_with(object, options).unwrap()).unwrap();
    let answer: mlua::Value = lua.load(script.as_str().expect("a script")).eval().unwrap();
    lua.from_value(answer).unwrap()
}
