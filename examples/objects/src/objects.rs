//! The objects of a session. None has anything but its seat, and perhaps a name.

use std::rc::Rc;

use capnp::Error;
use capnp_rpc::new_client;

use crate::objects_capnp::{desk, note, session};
use crate::seat::Held;

/// A session.
pub(crate) struct SessionObject(pub(crate) Rc<Held>);

struct DeskObject(Rc<Held>);

struct NoteObject {
    held: Rc<Held>,
    name: String,
}

impl session::Server for SessionObject {
    async fn whoami(
        self: Rc<Self>,
        _: session::WhoamiParams,
        mut results: session::WhoamiResults,
    ) -> Result<(), Error> {
        let who = self.0.seat.who()?;
        let mut to = results.get().init_who();
        to.set_name(who.subject.name().unwrap_or_default());
        to.set_anonymous(who.subject.name().is_none());
        let mut groups = to.reborrow().init_groups(count(who.groups.len()));
        for (at, group) in (0..).zip(who.groups.keys()) {
            groups.set(at, group);
        }
        let mut proofs = to.init_proofs(count(who.proofs().count()));
        for (at, proof) in (0..).zip(who.proofs()) {
            proofs.set(at, proof);
        }
        Ok(())
    }

    async fn desk(
        self: Rc<Self>,
        _: session::DeskParams,
        mut results: session::DeskResults,
    ) -> Result<(), Error> {
        self.0.seat.who()?;
        results.get().set_desk(new_client(DeskObject(Rc::clone(&self.0))));
        Ok(())
    }

    async fn logout(
        self: Rc<Self>,
        _: session::LogoutParams,
        _: session::LogoutResults,
    ) -> Result<(), Error> {
        let seat = &self.0.seat;
        seat.who()?;
        seat.end("logged out");
        seat.left().await;
        Ok(())
    }
}

impl desk::Server for DeskObject {
    async fn list(
        self: Rc<Self>,
        _: desk::ListParams,
        mut results: desk::ListResults,
    ) -> Result<(), Error> {
        let names = self.0.seat.with(async |desk| desk.list().await).await?;
        let mut to = results.get().init_names(count(names.len()));
        for (at, name) in (0..).zip(&names) {
            to.set(at, name);
        }
        Ok(())
    }

    async fn put(
        self: Rc<Self>,
        params: desk::PutParams,
        mut results: desk::PutResults,
    ) -> Result<(), Error> {
        let params = params.get()?;
        let (name, text) = (params.get_name()?.to_string()?, params.get_text()?.to_string()?);
        self.0.seat.with(async |desk| desk.put(name.clone(), text).await).await?;
        results.get().set_note(self.note(name));
        Ok(())
    }

    async fn find(
        self: Rc<Self>,
        params: desk::FindParams,
        mut results: desk::FindResults,
    ) -> Result<(), Error> {
        let name = params.get()?.get_name()?.to_string()?;
        self.0.seat.with(async |desk| desk.read(name.clone()).await).await?;
        results.get().set_note(self.note(name));
        Ok(())
    }

    async fn leave(
        self: Rc<Self>,
        params: desk::LeaveParams,
        _: desk::LeaveResults,
    ) -> Result<(), Error> {
        let params = params.get()?;
        let to = params.get_to()?.to_string()?;
        let (name, text) = (params.get_name()?.to_string()?, params.get_text()?.to_string()?);
        self.0.seat.with(async |desk| desk.leave(to, name, text).await).await
    }
}

impl DeskObject {
    fn note(&self, name: String) -> note::Client {
        new_client(NoteObject { held: Rc::clone(&self.0), name })
    }
}

impl note::Server for NoteObject {
    async fn read(
        self: Rc<Self>,
        _: note::ReadParams,
        mut results: note::ReadResults,
    ) -> Result<(), Error> {
        let name = self.name.clone();
        let text = self.held.seat.with(async |desk| desk.read(name).await).await?;
        results.get().set_text(&*text);
        Ok(())
    }

    async fn write(
        self: Rc<Self>,
        params: note::WriteParams,
        _: note::WriteResults,
    ) -> Result<(), Error> {
        let (name, text) = (self.name.clone(), params.get()?.get_text()?.to_string()?);
        self.held.seat.with(async |desk| desk.put(name, text).await).await
    }

    async fn take(
        self: Rc<Self>,
        _: note::TakeParams,
        mut results: note::TakeResults,
    ) -> Result<(), Error> {
        let name = self.name.clone();
        let text = self.held.seat.with(async |desk| desk.take(name).await).await?;
        results.get().set_text(&*text);
        Ok(())
    }
}

/// Lists here are limited by whoever makes them; one that were longer than the schema can say is cut.
fn count(length: usize) -> u32 {
    u32::try_from(length).unwrap_or(u32::MAX)
}
