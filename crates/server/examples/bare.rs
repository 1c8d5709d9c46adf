//! A handler that does nothing, on the HTTP stack that the server has: what the benchmark of forward-auth
//! compares with. Prints where it listens, and runs until it is killed.

use axum::Router;
use axum::routing::get;
use hyper::server::conn::http1;
use hyper_util::rt::{TokioIo, TokioTimer};
use hyper_util::service::TowerToHyperService;
use tokio::net::TcpListener;

#[tokio::main]
async fn main() -> std::io::Result<()> {
    let router: Router = Router::new().route("/", get(async || ()));
    let listener = TcpListener::bind("127.0.0.1:0").await?;
    println!("{}", listener.local_addr()?);
    loop {
        let (stream, _) = listener.accept().await?;
        stream.set_nodelay(true)?;
        let service = TowerToHyperService::new(router.clone());
        let stream = TokioIo::new(stream);
        let connection =
            http1::Builder::new().timer(TokioTimer::new()).serve_connection(stream, service);
        tokio::spawn(connection);
    }
}
