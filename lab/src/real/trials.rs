//! Tests that bring their own main, because they enter a namespace before any of them runs.

/// Trials of `libtest-mimic` from async functions that take what `$lab` holds, each by its name, or by that of its module
/// and its own.
#[macro_export]
macro_rules! trials {
    ($runtime:ident, $lab:ident, [$($name:ident),* $(,)?]) => {
        vec![$($crate::trials!(@one $runtime, $lab, stringify!($name), $name)),*]
    };
    ($runtime:ident, $lab:ident, $($module:ident: [$($name:ident),* $(,)?]),* $(,)?) => {
        vec![$($(
            $crate::trials!(
                @one $runtime, $lab, concat!(stringify!($module), "::", stringify!($name)), $module::$name
            ),
        )*)*]
    };
    (@one $runtime:ident, $lab:ident, $title:expr, $test:path) => {{
        let (runtime, lab) = ($runtime.clone(), $lab.clone());
        libtest_mimic::Trial::test($title, move || {
            runtime.block_on($test(&lab)).map_err(|error| format!("{error:#}").into())
        })
    }};
}
