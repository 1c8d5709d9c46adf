//! Connections: accepting, bounding, and stopping them.

use std::convert::Infallible;
use std::future::poll_fn;
use std::io;
use std::pin::{Pin, pin};
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use axum::body::Body;
use axum::http::{HeaderValue, Request, Response, header};
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::{Service, service_fn};
use hyper_util::rt::{TokioIo, TokioTimer};
use hyper_util::service::TowerToHyperService;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::time::Sleep;

use super::client::Connection;
use super::problem::Problem;
use super::{App, HttpOptions, forward_auth, routes};
use crate::engine::Engine;
use crate::front::Stop;

/// A request's head: the line and all headers together. It is looked at when a head is not complete, so
/// that one may be somewhat longer when it comes at once.
const HEAD_BYTES: usize = 32 * 1024;
const HEADERS: usize = 64;

/// How long to leave the listener alone when the system has no descriptor or memory for a connection.
const ACCEPT_PAUSE: Duration = Duration::from_millis(50);

/// What one connection too many is told.
const FULL: &[u8] = b"HTTP/1.1 503 Service Unavailable\r\n\
    content-type: application/json\r\n\
    cache-control: no-store\r\n\
    retry-after: 1\r\n\
    connection: close\r\n\
    content-length: 61\r\n\r\n\
    {\"status\":\"error\",\"error\":\"too many connections; try later\"}\n";

/// Serves HTTP/1.1 until a stop is asked for, and then until the requests under way are done.
pub async fn serve(
    listener: TcpListener,
    engine: Arc<Engine>,
    options: HttpOptions,
    mut stop: Stop,
) {
    let slots = Arc::new(Semaphore::new(options.connections));
    let options = Arc::new(options);
    let (pages, schemes) = Default::default();
    let app = App { engine, options, pages, schemes, stop: stop.clone() };
    let router = routes::router(app.clone());
    loop {
        let accepted = tokio::select! {
            () = stop.requested() => break,
            accepted = listener.accept() => accepted,
        };
        let (stream, remote) = match accepted {
            Ok(accepted) => accepted,
            Err(error) => {
                tracing::warn!(%error, "cannot accept an HTTP connection");
                tokio::time::sleep(ACCEPT_PAUSE).await;
                continue;
            }
        };
        match Arc::clone(&slots).try_acquire_owned() {
            Ok(slot) => {
                let router = TowerToHyperService::new(router.clone());
                let local = stream.local_addr().ok().map(|address| address.ip().to_canonical());
                let remote = remote.ip().to_canonical();
                let listener = app.options.listener;
                let traced = app.engine.telemetry.is_on();
                let connection = Connection { remote, local, listener, traced, tls: None };
                tokio::spawn(converse(stream, connection, app.clone(), router, slot));
            }
            // Within TLS there is nobody yet to be told anything.
            Err(_) if app.options.tls.is_some() => {}
            // Said without waiting: the buffer of a fresh socket has room, and if not, closing says it too.
            Err(_) => drop(stream.try_write(FULL)),
        }
    }
}

async fn converse(
    stream: TcpStream,
    connection: Connection,
    app: App,
    router: TowerToHyperService<axum::Router>,
    _slot: OwnedSemaphorePermit,
) {
    let _open = (Open::count(&app.engine), app.options.open.enter());
    // Replies are written whole; waiting to fill a packet only delays them.
    let _ = stream.set_nodelay(true);
    let stream = Impatient { stream, limit: app.options.write_timeout, stalled: None };
    let Some(tls) = app.options.tls.clone() else {
        return speak(stream, connection, app, router).await;
    };
    let mut stop = app.stop.clone();
    let accepted = tokio::select! {
        () = stop.requested() => return,
        accepted = tls.accept(stream) => accepted,
    };
    match accepted {
        Ok((stream, bindings)) => {
            let connection = Connection { tls: Some(bindings), ..connection };
            speak(stream, connection, app, router).await;
        }
        Err(error) => tracing::debug!(%error, remote = %connection.remote, "no TLS handshake"),
    }
}

/// Serves the requests of a connection.
async fn speak<S: AsyncRead + AsyncWrite + Unpin + Send + 'static>(
    stream: S,
    connection: Connection,
    app: App,
    router: TowerToHyperService<axum::Router>,
) {
    let options = &app.options;
    let mut stop = app.stop.clone();
    // Borrowed by each request: nothing is cloned for it.
    let (app, router, connection) = (&app, &router, &connection);
    let service = service_fn(move |request: Request<Incoming>| async move {
        Ok::<_, Infallible>(reply(app, router, connection, request).await)
    });
    // A limit of the library's own to the number of headers would be an allocation for each request.
    let connection = http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(options.head_timeout)
        .max_buf_size(HEAD_BYTES)
        .serve_connection(TokioIo::new(stream), service);
    let mut connection = pin!(connection);
    let ended = tokio::select! {
        ended = connection.as_mut() => ended,
        () = stop.requested() => {
            connection.as_mut().graceful_shutdown();
            match tokio::time::timeout(options.drain_timeout, connection).await {
                Ok(ended) => ended,
                Err(_) => return tracing::warn!("an HTTP request was cut off by the stop"),
            }
        }
    };
    if let Err(error) = ended {
        tracing::debug!(%error, "an HTTP connection ended");
    }
}

async fn reply(
    app: &App,
    router: &TowerToHyperService<axum::Router>,
    connection: &Connection,
    mut request: Request<Incoming>,
) -> Response<Body> {
    let private = request.uri().path().starts_with("/v1");
    let limit = app.options.request_timeout;
    let client = match request.headers().len() {
        0..=HEADERS => connection.client(request.headers(), &app.options.trusted_proxies),
        _ => Err(Problem::too_many_headers()),
    };
    let mut reply = match client {
        Ok(client) if routes::is_direct(app, &request) => {
            // A reply of its own has all of its headers.
            match within(limit, pin!(forward_auth::direct(app, &client, &request))).await {
                Some(reply) => return reply,
                None => Problem::too_slow().into(),
            }
        }
        Ok(client) => {
            request.extensions_mut().insert(client);
            match within(limit, pin!(router.call(request))).await {
                Some(Ok(reply)) => reply,
                Some(Err(never)) => match never {},
                None => Problem::too_slow().into(),
            }
        }
        Err(problem) => problem.into(),
    };
    let headers = reply.headers_mut();
    if private {
        headers.insert(header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
    }
    headers.insert(header::X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff"));
    reply
}

/// What some work comes to, unless it takes too long. The clock is asked only about what has to wait, and the
/// work, which has room for all that may become of a request, stays where it is.
async fn within<T>(limit: Duration, mut work: Pin<&mut impl Future<Output = T>>) -> Option<T> {
    match poll_fn(|context| Poll::Ready(work.as_mut().poll(context))).await {
        Poll::Ready(done) => Some(done),
        Poll::Pending => tokio::time::timeout(limit, work).await.ok(),
    }
}

/// Counts an open connection for as long as it is.
struct Open(Arc<Engine>);

impl Open {
    fn count(engine: &Arc<Engine>) -> Self {
        engine.metrics.connections.fetch_add(1, Ordering::Relaxed);
        Self(Arc::clone(engine))
    }
}

impl Drop for Open {
    fn drop(&mut self) {
        self.0.metrics.connections.fetch_sub(1, Ordering::Relaxed);
    }
}

/// A stream that fails when its peer takes nothing of what is written for too long: a peer that asks and
/// never reads would otherwise hold its slot for ever.
struct Impatient {
    stream: TcpStream,
    limit: Duration,
    stalled: Option<Pin<Box<Sleep>>>,
}

impl Impatient {
    fn within<T>(
        &mut self,
        polled: Poll<io::Result<T>>,
        context: &mut Context<'_>,
    ) -> Poll<io::Result<T>> {
        if polled.is_ready() {
            self.stalled = None;
            return polled;
        }
        let limit = self.limit;
        let stalled = self.stalled.get_or_insert_with(|| Box::pin(tokio::time::sleep(limit)));
        ready!(stalled.as_mut().poll(context));
        Poll::Ready(Err(io::ErrorKind::TimedOut.into()))
    }
}

impl AsyncRead for Impatient {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_read(context, buffer)
    }
}

impl AsyncWrite for Impatient {
    fn poll_write(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        let polled = Pin::new(&mut self.stream).poll_write(context, bytes);
        self.within(polled, context)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        slices: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let polled = Pin::new(&mut self.stream).poll_write_vectored(context, slices);
        self.within(polled, context)
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(context)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(context)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_reply_to_one_too_many_is_well_formed() {
        let text = std::str::from_utf8(FULL).unwrap();
        let (head, body) = text.split_once("\r\n\r\n").unwrap();
        assert!(head.contains(&format!("content-length: {}", body.len())), "{}", body.len());
        let body: super::super::ProblemView = serde_json::from_str(body).unwrap();
        assert_eq!(body.status, "error");
    }
}
