//! HTTP over TCP, with limits on what a connection may cost.

use std::time::Duration;

use axum::Router;
use hyper::server::conn::http1;
use hyper_util::rt::{TokioIo, TokioTimer};
use hyper_util::server::graceful::GracefulShutdown;
use hyper_util::service::TowerToHyperService;
use tokio::net::TcpListener;
use tokio_util::sync::CancellationToken;
use tracing::{debug, warn};

/// A request's head must be here within this time; so must the next one on an idle connection.
const HEAD_TIMEOUT: Duration = Duration::from_secs(15);
/// The most a request's head may be, and about the most that is buffered for a client that does not
/// read, beside its events: 400 KB by hyper's default.
const CONNECTION_BUFFER: usize = 16 * 1024;
/// How long open connections may take to end.
const GRACE: Duration = Duration::from_secs(5);
/// After an error such as too many open files.
const BREATH: Duration = Duration::from_millis(200);

/// Serves until `stop`, then lets open requests end.
pub async fn serve(listener: TcpListener, app: Router, stop: CancellationToken) {
    let mut http = http1::Builder::new();
    http.timer(TokioTimer::new()).header_read_timeout(HEAD_TIMEOUT).max_buf_size(CONNECTION_BUFFER);
    let connections = GracefulShutdown::new();
    let service = TowerToHyperService::new(app);
    loop {
        let accepted = tokio::select! {
            accepted = listener.accept() => accepted,
            () = stop.cancelled() => break,
        };
        let (stream, peer) = match accepted {
            Ok(accepted) => accepted,
            Err(error) => {
                warn!(%error, "cannot accept a connection");
                tokio::time::sleep(BREATH).await;
                continue;
            }
        };
        // An event is small and should go out at once. If this fails, the connection is gone.
        let _ = stream.set_nodelay(true);
        let connection = http.serve_connection(TokioIo::new(stream), service.clone());
        let connection = connections.watch(connection);
        tokio::spawn(async move {
            if let Err(error) = connection.await {
                debug!(%peer, %error, "a connection broke");
            }
        });
    }
    drop(listener);
    if tokio::time::timeout(GRACE, connections.shutdown()).await.is_err() {
        warn!("some clients did not read to the end: they are cut off");
    }
}
