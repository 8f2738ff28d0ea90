//! TLS: which implementation of cryptography the whole process uses.

/// Makes `ring` the provider of rustls for this process; called before an HTTP client is built.
///
/// It may be called any number of times. Whoever was first wins: a program that embeds this library and has
/// installed another provider keeps it.
pub fn install() {
    if rustls::crypto::CryptoProvider::get_default().is_none() {
        // An error only says that another thread was faster, which is as good.
        let _ = rustls::crypto::ring::default_provider().install_default();
    }
}

#[cfg(test)]
mod tests {
    #[test]
    fn installing_twice_keeps_the_first() {
        super::install();
        let first = rustls::crypto::CryptoProvider::get_default().expect("installed").clone();
        super::install();
        let second = rustls::crypto::CryptoProvider::get_default().expect("installed");
        assert!(std::sync::Arc::ptr_eq(&first, second));
    }
}
