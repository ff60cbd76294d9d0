//! What the benchmark's processes share: a folder with keys, certificates and host names, and
//! the rule which names are intercepted.

use std::fmt::Write;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use rustls::crypto::CryptoProvider;
use rustls::{ClientConfig, ServerConfig};
use rustls_pki_types::pem::PemObject;
use rustls_pki_types::{CertificateDer, PrivateKeyDer};

use testbed::authority::{
    Authority, Identity, certificates_from_pem, client_config, client_config_with, crypto_provider,
};

use crate::failure::Failure;

/// The name that most cases ask for.
pub(super) const HOT_NAME: &str = "hot.bench.test";
/// The name that no proxy intercepts.
pub(super) const TUNNEL_NAME: &str = "tunnel.test";
/// How many names are asked for once each.
const NAMES: usize = 500;

/// The folder and what is in it.
#[derive(Debug)]
pub(super) struct Material {
    folder: PathBuf,
}

/// What load and upstream agree on with whoever it is: X25519 and AES-128-GCM in TLS 1.3, so that all
/// proxies pay for the same handshakes and the same ciphers.
pub(super) fn like_with_like() -> Arc<CryptoProvider> {
    use rustls::crypto::aws_lc_rs::cipher_suite::TLS13_AES_128_GCM_SHA256;
    use rustls::crypto::aws_lc_rs::kx_group::X25519;

    let mut provider = Arc::unwrap_or_clone(crypto_provider());
    provider.cipher_suites = vec![TLS13_AES_128_GCM_SHA256];
    provider.kx_groups = vec![X25519];
    Arc::new(provider)
}

/// The same, but for the key exchange, of which the upstream takes what the proxy likes best.
pub(super) fn any_key_exchange() -> Arc<CryptoProvider> {
    let mut provider = Arc::unwrap_or_clone(like_with_like());
    provider.kx_groups = crypto_provider().kx_groups.clone();
    Arc::new(provider)
}

/// Whether a proxy is to open connections to this name.
pub(super) fn is_intercepted(name: &str) -> bool {
    name.ends_with(".bench.test")
}

/// The names of the case with many names.
pub(super) fn many_names() -> Vec<String> {
    (0..NAMES)
        .map(|number| format!("n{number}.bench.test"))
        .collect()
}

impl Material {
    /// Uses a folder that is there already.
    pub(super) fn open(folder: &Path) -> Self {
        Self {
            folder: folder.to_path_buf(),
        }
    }

    /// Makes all files, and the upstream's certificate.
    pub(super) fn make(folder: &Path) -> Result<(Self, Identity), Failure> {
        std::fs::create_dir_all(folder)?;
        let material = Self::open(folder);
        let proxy = Authority::new("bench proxy CA");
        material.write("ca.pem", &proxy.certificate_pem())?;
        material.write_secret("ca.key", &proxy.key_pem())?;
        let floor = proxy.issue(&["*.bench.test"]);
        material.write("floor.pem", floor.chain_pem())?;
        material.write_secret("floor.key", floor.key_pem())?;
        let both = format!("{}{}", floor.chain_pem(), floor.key_pem());
        material.write_secret("reverse.pem", &both)?;
        let upstream = Authority::new("bench upstream CA");
        material.write("upstream-ca.pem", &upstream.certificate_pem())?;
        Ok((material, upstream.issue(&["*.bench.test", TUNNEL_NAME])))
    }

    /// Writes a hosts file that sends all names to loopback.
    pub(super) fn write_hosts(folder: &Path) -> Result<PathBuf, Failure> {
        std::fs::create_dir_all(folder)?;
        let mut text = format!("127.0.0.1 localhost {HOT_NAME} {TUNNEL_NAME}\n");
        for name in many_names() {
            writeln!(text, "127.0.0.1 {name}")?;
        }
        let path = folder.join("hosts");
        std::fs::write(&path, text)?;
        Ok(path)
    }

    pub(super) fn path(&self, file: &str) -> PathBuf {
        self.folder.join(file)
    }

    pub(super) fn read(&self, file: &str) -> Result<String, Failure> {
        Ok(std::fs::read_to_string(self.path(file))?)
    }

    pub(super) fn write(&self, file: &str, text: &str) -> Result<(), Failure> {
        Ok(std::fs::write(self.path(file), text)?)
    }

    fn write_secret(&self, file: &str, text: &str) -> Result<(), Failure> {
        self.write(file, text)?;
        let owner_only = std::fs::Permissions::from_mode(0o600);
        Ok(std::fs::set_permissions(self.path(file), owner_only)?)
    }

    /// What the floor shows to clients.
    pub(super) fn floor_server(&self) -> Result<Arc<ServerConfig>, Failure> {
        let chain = certificates_from_pem(self.read("floor.pem")?.as_bytes())?;
        let key = PrivateKeyDer::from_pem_slice(self.read("floor.key")?.as_bytes())?;
        let mut config = ServerConfig::builder_with_provider(crypto_provider())
            .with_safe_default_protocol_versions()?
            .with_no_client_auth()
            .with_single_cert(chain, key)?;
        config.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
        Ok(Arc::new(config))
    }

    /// How a proxy speaks to the upstream: verified, with these protocols.
    pub(super) fn upstream_client(&self, alpn: &[&str]) -> Result<Arc<ClientConfig>, Failure> {
        Ok(client_config(&self.roots(&["upstream-ca.pem"])?, alpn))
    }

    /// How the load speaks to whoever answers. Each connection is a new client's: nothing is
    /// resumed.
    pub(super) fn load_client(&self, alpn: &str) -> Result<Arc<ClientConfig>, Failure> {
        let roots = self.roots(&["ca.pem", "upstream-ca.pem"])?;
        let mut config =
            Arc::unwrap_or_clone(client_config_with(&roots, &[alpn], like_with_like()));
        config.resumption = rustls::client::Resumption::disabled();
        Ok(Arc::new(config))
    }

    fn roots(&self, files: &[&str]) -> Result<Vec<CertificateDer<'static>>, Failure> {
        let mut roots = Vec::new();
        for file in files {
            roots.extend(certificates_from_pem(self.read(file)?.as_bytes())?);
        }
        Ok(roots)
    }
}
