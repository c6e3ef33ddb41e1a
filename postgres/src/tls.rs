//! TLS as libpq's `verify-full` has it: the server's certificate is signed by a root of `sslrootcert`, and is for the
//! name that was asked for. The client crate leaves all of that to whoever makes its connections.

use std::future::Future;
use std::io;
use std::path::Path;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, ServerName};
use rustls::{ClientConfig, RootCertStore};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::TcpStream;
use tokio_postgres::tls::{ChannelBinding, TlsConnect, TlsStream};
use tokio_rustls::TlsConnector;

/// What is verified by.
///
/// # Errors
/// There is no root certificate there.
pub fn config(roots: &Path) -> Result<Arc<ClientConfig>, String> {
    let shown = roots.display();
    let mut store = RootCertStore::empty();
    let found =
        CertificateDer::pem_file_iter(roots).map_err(|error| format!("{shown}: {error}"))?;
    for certificate in found {
        let certificate = certificate.map_err(|error| format!("{shown}: {error}"))?;
        store.add(certificate).map_err(|error| format!("{shown}: {error}"))?;
    }
    if store.is_empty() {
        return Err(format!("{shown} holds no certificate"));
    }
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let config =
        ClientConfig::builder_with_provider(provider).with_safe_default_protocol_versions();
    let config = config.map_err(|error| error.to_string())?;
    Ok(Arc::new(config.with_root_certificates(store).with_no_client_auth()))
}

/// To one server.
pub struct Verified {
    pub config: Arc<ClientConfig>,
    pub name: ServerName<'static>,
}

impl TlsConnect<TcpStream> for Verified {
    type Stream = Stream;
    type Error = io::Error;
    type Future = Pin<Box<dyn Future<Output = io::Result<Stream>> + Send>>;

    fn connect(self, stream: TcpStream) -> Self::Future {
        let connecting = TlsConnector::from(self.config).connect(self.name, stream);
        Box::pin(async move { connecting.await.map(|stream| Stream(Box::new(stream))) })
    }
}

pub struct Stream(Box<tokio_rustls::client::TlsStream<TcpStream>>);

impl TlsStream for Stream {
    /// SCRAM alone: the certificate was verified, which is what binding would add.
    fn channel_binding(&self) -> ChannelBinding {
        ChannelBinding::none()
    }
}

impl AsyncRead for Stream {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        into: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        Pin::new(&mut self.0).poll_read(cx, into)
    }
}

impl AsyncWrite for Stream {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        from: &[u8],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.0).poll_write(cx, from)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.0).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.0).poll_shutdown(cx)
    }
}
