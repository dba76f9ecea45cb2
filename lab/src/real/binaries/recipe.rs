//! What is built, from which pinned module, with which flags.
//!
//! For a newer version, change `go.mod` in the module's folder and the version here, then bring `go.sum` up to date: by
//! `go mod tidy` for etcd and Kubernetes (whose `replace` lines name a version too), by a build with `-mod=mod` for
//! Prometheus, whose tests require modules that its program does not.

use std::env::consts::{ARCH, OS};

/// How one program is built.
pub(super) struct Recipe {
    pub(super) program: &'static str,
    pub(super) version: &'static str,
    /// The Go package of the program.
    pub(super) package: &'static str,
    pub(super) module: Module,
    /// Flags of `go build` beyond those that all have.
    pub(super) flags: &'static [&'static str],
    /// What goes to the linker beyond `-s -w`.
    pub(super) ldflags: &'static str,
    /// How long a build takes on two cores with nothing cached, for the progress line.
    pub(super) about: &'static str,
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
    package: "go.etcd.io/etcd/server/v3",
    module: Module {
        go_mod: include_str!("../../../go/etcd/go.mod"),
        go_sum: include_str!("../../../go/etcd/go.sum"),
        go: "1.26.0",
    },
    flags: &[],
    ldflags: "",
    about: "1 min",
};

pub(super) const KUBE_APISERVER: Recipe = Recipe {
    program: "kube-apiserver",
    version: "v1.36.3",
    package: "k8s.io/kubernetes/cmd/kube-apiserver",
    module: KUBERNETES,
    flags: &[],
    ldflags: KUBERNETES_VERSION,
    about: "4 min",
};

pub(super) const KUBE_CONTROLLER_MANAGER: Recipe = Recipe {
    program: "kube-controller-manager",
    version: "v1.36.3",
    package: "k8s.io/kubernetes/cmd/kube-controller-manager",
    module: KUBERNETES,
    flags: &[],
    ldflags: KUBERNETES_VERSION,
    about: "1 min",
};

pub(super) const PROMETHEUS: Recipe = Recipe {
    program: "prometheus",
    version: "v0.316.0",
    package: "github.com/prometheus/prometheus/cmd/prometheus",
    module: Module {
        go_mod: include_str!("../../../go/prometheus/go.mod"),
        go_sum: include_str!("../../../go/prometheus/go.sum"),
        go: "1.26.7",
    },
    // Targets come from a file here, so the clients of every cloud can stay out.
    flags: &["-tags", "netgo,remove_all_sd"],
    ldflags: "",
    about: "2 min",
};

impl Recipe {
    /// The file name in the cache: another pin, flag or platform is another file.
    pub(super) fn key(&self) -> String {
        let mut parts = vec![self.module.go_mod, self.module.go_sum, self.package, self.ldflags, OS, ARCH];
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
        for recipe in [&ETCD, &KUBE_APISERVER, &KUBE_CONTROLLER_MANAGER, &PROMETHEUS] {
            let required = recipe.module.go_mod.lines().find_map(|line| line.strip_prefix("require "));
            let (module, version) = required.unwrap().split_once(' ').unwrap();
            assert!(recipe.package.starts_with(module), "{}", recipe.program);
            assert_eq!(version, recipe.version, "{}", recipe.program);
            assert!(
                recipe.module.go_mod.contains(&format!("\ngo {}\n", recipe.module.go)),
                "{}",
                recipe.program
            );
        }
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
