//! The mind: the object that a client lends, as the application sees it.
//!
//! Objects of the RPC library stay on their thread, and an application is on all of them. So a mind is the end of a
//! short queue, and what reads the other end calls the client's object, one thing at a time.

use std::sync::Arc;
use std::time::Duration;

use countersign::Told;
use tokio::sync::mpsc::error::TrySendError;
use tokio::sync::{mpsc, oneshot};
use tokio::time::timeout;

use crate::objects_capnp::mind;

/// How much a client may have waiting.
const WAITING: usize = 16;
/// Bytes of each thing that a client says of itself.
const SAID: usize = 128;

/// How a client is told something, and asked about itself.
#[derive(Clone, Debug)]
pub struct Mind(mpsc::Sender<Telling>);

/// What a client says of itself. It is unproven, at most 128 bytes each, and has no control characters.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct About {
    /// Which program it is.
    pub client: String,
    /// The language that its person reads (RFC 5646).
    pub language: String,
}

/// Something for the client's object.
#[derive(Debug)]
enum Telling {
    Notice(Arc<str>),
    About(oneshot::Sender<About>),
}

impl Mind {
    /// Tells something to the person, without waiting: a realm does this under the lock of its minds.
    pub fn tell(&self, text: impl Into<Arc<str>>) -> Told {
        match self.0.try_send(Telling::Notice(text.into())) {
            Ok(()) => Told::Heard,
            // What waits already is as new as this; a client that hears nothing at all is given up by whoever
            // calls it.
            Err(TrySendError::Full(_)) => Told::Passed,
            Err(TrySendError::Closed(_)) => Told::Gone,
        }
    }

    /// Asks the client about itself. `None`: it lent no mind, or the mind does not say. It is waited for as long as a
    /// call of a mind may take, so a realm that will not wait so long has a deadline of its own.
    pub async fn about(&self) -> Option<About> {
        let (answer, about) = oneshot::channel();
        self.0.send(Telling::About(answer)).await.ok()?;
        about.await.ok()
    }
}

/// A mind, and what has to be polled for it to be heard, on the thread of the client's object. It ends when the mind is
/// held by nobody, or when the client's object is gone: then telling the mind says so.
pub(crate) fn lend(
    lent: Option<mind::Client>,
    hearing: Duration,
) -> (Mind, impl Future<Output = ()> + 'static) {
    let (sender, mut receiver) = mpsc::channel(WAITING);
    let pump = async move {
        let Some(lent) = lent else { return };
        while let Some(telling) = receiver.recv().await {
            let called = async {
                match telling {
                    Telling::Notice(text) => {
                        let mut call = lent.notice_request();
                        call.get().set_text(&*text);
                        call.send().promise.await.map(drop)
                    }
                    Telling::About(answer) => {
                        let reply = lent.about_request().send().promise.await?;
                        let about = reply.get()?;
                        let (client, language) =
                            (said(about.get_client()?), said(about.get_language()?));
                        let _ = answer.send(About { client, language });
                        Ok(())
                    }
                }
            };
            match timeout(hearing, called).await {
                Ok(Ok(())) => {}
                // It does not have this, or made a mistake: the next thing it may understand.
                Ok(Err(error)) if error.kind != capnp::ErrorKind::Disconnected => {
                    tracing::debug!("a mind answers with an error: {error}");
                }
                Ok(Err(_)) | Err(_) => return,
            }
        }
    };
    (Mind(sender), pump)
}

/// What a client says, short and on one line.
fn said(text: capnp::text::Reader<'_>) -> String {
    let text = text.to_str().unwrap_or_default();
    let mut said = String::new();
    for letter in text.chars().filter(|letter| !letter.is_control()) {
        if said.len() + letter.len_utf8() > SAID {
            break;
        }
        said.push(letter);
    }
    said
}

#[cfg(test)]
mod tests {
    use std::cell::RefCell;
    use std::rc::Rc;

    use tokio::task::{LocalSet, spawn_local};

    use super::*;

    const HEARING: Duration = Duration::from_secs(30);

    #[derive(Default)]
    struct Client(RefCell<Vec<String>>);

    impl mind::Server for Client {
        async fn about(
            self: Rc<Self>,
            _: mind::AboutParams,
            mut results: mind::AboutResults,
        ) -> Result<(), capnp::Error> {
            results.get().set_client("a\nprogram");
            results.get().set_language("é".repeat(100));
            Ok(())
        }

        async fn notice(
            self: Rc<Self>,
            params: mind::NoticeParams,
            _: mind::NoticeResults,
        ) -> Result<(), capnp::Error> {
            let text = params.get()?.get_text()?.to_string()?;
            match &*text {
                "a mistake" => return Err(capnp::Error::failed("what?".into())),
                "silence" => std::future::pending().await,
                "gone" => return Err(capnp::Error::disconnected("gone".into())),
                _ => self.0.borrow_mut().push(text),
            }
            Ok(())
        }
    }

    #[tokio::test(start_paused = true)]
    async fn a_mind_hears_in_order_and_who_went_away_is_gone() {
        for end in ["silence", "gone"] {
            let client = Rc::new(Client::default());
            let (mind, pump) =
                lend(Some(capnp_rpc::new_client_from_rc(Rc::clone(&client))), HEARING);
            let local = LocalSet::new();
            local
                .run_until(async {
                    let pump = spawn_local(pump);
                    assert_eq!(mind.tell("one"), Told::Heard);
                    assert_eq!(mind.tell("a mistake"), Told::Heard);
                    assert_eq!(mind.tell("two"), Told::Heard);
                    let about = mind.about().await.unwrap();
                    assert_eq!((&*about.client, about.language.len()), ("aprogram", SAID));
                    assert_eq!(*client.0.borrow(), ["one", "two"]);
                    assert_eq!(mind.tell(end), Told::Heard);
                    pump.await.unwrap();
                    assert_eq!(mind.tell("three"), Told::Gone);
                    assert_eq!(mind.about().await, None);
                })
                .await;
        }
    }

    #[tokio::test]
    async fn without_an_object_nobody_hears() {
        let (mind, pump) = lend(None, HEARING);
        pump.await;
        assert_eq!((mind.tell("one"), mind.about().await), (Told::Gone, None));
    }

    #[test]
    fn what_waits_has_a_limit() {
        let (mind, _pump) = lend(None, HEARING);
        for _ in 0..WAITING {
            assert_eq!(mind.tell("something"), Told::Heard);
        }
        assert_eq!(mind.tell("something"), Told::Passed);
    }
}
