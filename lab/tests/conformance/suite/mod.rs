//! The questions, by subject.

use std::{future::Future, pin::Pin};

use crate::world::World;

pub(crate) type Test = fn(World) -> Pin<Box<dyn Future<Output = ()>>>;

/// Makes a module's list of tests, each under its own name.
macro_rules! tests {
    ($($name:ident),* $(,)?) => {
        pub(crate) fn tests() -> Vec<(String, $crate::suite::Test)> {
            let module = module_path!().rsplit("::").next().unwrap();
            vec![$((format!("{module}::{}", stringify!($name)), |world| Box::pin($name(world)))),*]
        }
    };
}

mod builtin;
mod collecting;
mod create;
mod delete;
mod discovery;
mod list;
mod patch;
mod replace;
mod runtime;
mod status;
mod traffic;
mod watch;

pub(crate) fn all() -> Vec<(String, Test)> {
    [
        create::tests(),
        replace::tests(),
        patch::tests(),
        status::tests(),
        delete::tests(),
        list::tests(),
        watch::tests(),
        collecting::tests(),
        runtime::tests(),
        discovery::tests(),
        builtin::tests(),
        traffic::tests(),
    ]
    .concat()
}
