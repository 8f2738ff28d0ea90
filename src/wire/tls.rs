//! TLS: which certificates are trusted, as the configuration says.

use std::sync::Arc;

use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::crypto::{CryptoProvider, ring, verify_tls12_signature, verify_tls13_signature};
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName, UnixTime};
use rustls::{ClientConfig, DigitallySignedStruct, RootCertStore, SignatureScheme};

use crate::config::RedisTls;

/// How TLS is spoken to one server. Files are read now, at every connection: renewed certificates need no restart.
pub(super) fn client(tls: &RedisTls) -> Result<Arc<ClientConfig>, String> {
    let provider = Arc::new(ring::default_provider());
    let builder = ClientConfig::builder_with_provider(provider.clone()).with_safe_default_protocol_versions();
    let builder = builder.map_err(|error| error.to_string())?;
    let builder = match tls.insecure {
        true => builder.dangerous().with_custom_certificate_verifier(Arc::new(Anybody(provider))),
        false => builder.with_root_certificates(roots(tls)?),
    };
    let config = match &tls.client {
        None => builder.with_no_client_auth(),
        Some((chain, key)) => {
            let certificates = certificates(chain)?;
            let key = PrivateKeyDer::from_pem_file(key).map_err(|error| format!("{}: {error}", key.display()))?;
            builder.with_client_auth_cert(certificates, key).map_err(|error| error.to_string())?
        }
    };
    Ok(Arc::new(config))
}

fn roots(tls: &RedisTls) -> Result<RootCertStore, String> {
    let mut store = RootCertStore::empty();
    match &tls.ca_file {
        Some(file) => {
            for certificate in certificates(file)? {
                store.add(certificate).map_err(|error| format!("{}: {error}", file.display()))?;
            }
        }
        None => {
            // Of a system's many certificates some are old; those that can be read are enough.
            store.add_parsable_certificates(rustls_native_certs::load_native_certs().certs);
        }
    }
    Ok(store)
}

fn certificates(file: &std::path::Path) -> Result<Vec<CertificateDer<'static>>, String> {
    let fault = |error: rustls::pki_types::pem::Error| format!("{}: {error}", file.display());
    CertificateDer::pem_file_iter(file).map_err(fault)?.collect::<Result<_, _>>().map_err(fault)
}

/// What went wrong, and which key of the configuration mends it; `end` is how those keys begin.
pub(super) fn explained(words: &str, end: &str) -> String {
    // `redis.url`, `source`, `target`.
    let address = if end.ends_with('.') { format!("{end}url") } else { end.trim_end_matches('_').to_owned() };
    let says = |what: &str| words.contains(what);
    let remedy = if says("UnknownIssuer") {
        format!("its authority is not trusted: {end}tls_ca_file names the PEM file of who signed it")
    } else if says("NotValidForName") || says("not valid for name") {
        format!("the certificate is another host's: use a name that it holds in `{address}`")
    } else if says("certificate expired") || says("NotValidYet") || says("not valid yet") {
        "renew it, or correct the clock".to_owned()
    } else if says("CertificateRequired") {
        format!("it asks for our certificate: {end}tls_cert_file and {end}tls_key_file")
    } else if says("received fatal alert")
        && (says("UnknownCA") || says("BadCertificate") || says("CertificateUnknown"))
    {
        format!("it does not trust our certificate: let its authority sign the one in {end}tls_cert_file")
    } else if says("InvalidContentType") || says("no TLS within") {
        format!("it may speak no TLS on this port: write redis:// in `{address}`, or its TLS port")
    } else {
        return words.to_owned();
    };
    format!("{words}; {remedy}")
}

/// Trusts whoever answers: only for those who say `..._tls_insecure`.
#[derive(Debug)]
struct Anybody(Arc<CryptoProvider>);

impl ServerCertVerifier for Anybody {
    fn verify_server_cert(
        &self,
        _: &CertificateDer<'_>,
        _: &[CertificateDer<'_>],
        _: &ServerName<'_>,
        _: &[u8],
        _: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        verify_tls12_signature(message, certificate, signature, &self.0.signature_verification_algorithms)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        verify_tls13_signature(message, certificate, signature, &self.0.signature_verification_algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.0.signature_verification_algorithms.supported_schemes()
    }
}
