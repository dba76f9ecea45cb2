//! Certificates for a Prometheus that is spoken to by TLS, and for those who ask it.

use rcgen::{BasicConstraints, CertificateParams, DnType, IsCa, Issuer, KeyPair, date_time_ymd};
use sluice_lab::real::Guard;

/// Who signs certificates.
pub struct Authority {
    issuer: Issuer<'static, KeyPair>,
    pub pem: String,
}

impl Authority {
    pub fn new(name: &str) -> Self {
        let key = KeyPair::generate().unwrap();
        let mut params = CertificateParams::default();
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        params.distinguished_name.push(DnType::CommonName, name);
        let pem = params.self_signed(&key).unwrap().pem();
        Self { issuer: Issuer::new(params, key), pem }
    }

    /// A certificate for this name, good until that year, and its key.
    pub fn signs(&self, name: &str, until: i32) -> (String, String) {
        let key = KeyPair::generate().unwrap();
        let mut params = CertificateParams::new([name.to_owned()]).unwrap();
        params.not_before = date_time_ymd(2020, 1, 1);
        params.not_after = date_time_ymd(until, 1, 1);
        (params.signed_by(&key, &self.issuer).unwrap().pem(), key.serialize_pem())
    }

    /// A server's certificate for this name, good until that year.
    pub fn guard(&self, name: &str, until: i32) -> Guard {
        let (certificate, key) = self.signs(name, until);
        // The hash of this very password, at the least cost that bcrypt has.
        let user = ["sluice", "s3cr3t", "$2b$04$3j0n43W3/JKLGbTm85stieBmLkx4LuuUE3va3mvsiscF6GdfDS16S"];
        Guard { certificate, key, user: Some(user.map(str::to_owned)), clients: None }
    }
}
