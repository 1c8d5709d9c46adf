//! Several interfaces on one application, minds of another shape, and realms that are shared.

use std::any::{Any, TypeId};
use std::fmt;
use std::marker::PhantomData;
use std::pin::Pin;
use std::sync::Arc;

use crate::{Denial, Identity, Interface, Realm, Session, Verified};

/// A realm is shared by the portals of several protocols.
impl<I: Interface, R: Realm<I>> Realm<I> for Arc<R> {
    fn admit(
        &self,
        who: &Verified<Identity>,
        mind: I::Mind,
    ) -> impl Future<Output = Result<Session<I>, Denial>> + Send {
        (**self).admit(who, mind)
    }
}

/// A realm that takes minds of another shape than the protocol has: it is lent what `adapt` makes of them.
///
/// The protocol's interface and the realm's have the same avatar. So one realm notifies the clients of
/// several protocols, each through that protocol's own way of saying something.
///
/// ```
/// use countersign::{Adapted, Denial, Identity, Interface, Realm, Session, Verified};
///
/// // The realm has its own idea of telling.
/// struct Shop;
/// impl Interface for Shop {
///     const NAME: &'static str = "shop";
///     type Avatar = String;
///     type Mind = Box<dyn Fn(&str) + Send>;
/// }
/// struct Baker;
/// impl Realm<Shop> for Baker {
///     async fn admit(&self, who: &Verified<Identity>, tell: Box<dyn Fn(&str) + Send>) -> Result<Session<Shop>, Denial> {
///         tell("the bread is ready");
///         Ok(Session::new(Box::new(who.subject.to_string())))
///     }
/// }
///
/// // The protocol has a channel.
/// struct Lines;
/// impl Interface for Lines {
///     const NAME: &'static str = "lines";
///     type Avatar = String;
///     type Mind = std::sync::mpsc::Sender<String>;
/// }
/// let realm = Adapted::<_, Shop, _>::new(Baker, |lines: std::sync::mpsc::Sender<String>| {
///     Box::new(move |text: &str| drop(lines.send(format!("* {text}")))) as Box<dyn Fn(&str) + Send>
/// });
/// # let (sender, lines) = std::sync::mpsc::channel();
/// # let who = Verified::vouch(Identity::named("ada"));
/// # let admitted = Realm::<Lines>::admit(&realm, &who, sender);
/// # countersign::testing::now_or_never(admitted).unwrap().unwrap();
/// # assert_eq!(lines.recv().unwrap(), "* the bread is ready");
/// ```
pub struct Adapted<R, J, F> {
    realm: R,
    adapt: F,
    interface: PhantomData<fn() -> J>,
}

impl<R, J, F> Adapted<R, J, F> {
    /// A realm with the interface `J`, and what turns minds into `J`'s.
    pub const fn new(realm: R, adapt: F) -> Self {
        Self { realm, adapt, interface: PhantomData }
    }
}

impl<I, J, R, F> Realm<I> for Adapted<R, J, F>
where
    I: Interface,
    J: Interface<Avatar = I::Avatar>,
    R: Realm<J>,
    F: Fn(I::Mind) -> J::Mind + Send + Sync,
{
    async fn admit(&self, who: &Verified<Identity>, mind: I::Mind) -> Result<Session<I>, Denial> {
        let session = self.realm.admit(who, (self.adapt)(mind)).await?;
        Ok(session.map(|avatar| avatar))
    }
}

impl<R: fmt::Debug, J, F> fmt::Debug for Adapted<R, J, F> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Adapted").field(&self.realm).finish()
    }
}

/// An application whose interfaces are put together when it starts, from configuration.
///
/// Where the realm is known to the compiler, a missing interface does not compile. Where it is not, each
/// listener asks for its interface before it listens, and a missing one is an error of the start and
/// not of the first login.
///
/// ```
/// use countersign::{Application, Denial, Identity, Interface, Realm, Session, Verified};
///
/// struct Shell;
/// impl Interface for Shell {
///     const NAME: &'static str = "shell";
///     type Avatar = str;
///     type Mind = ();
/// }
/// struct Files;
/// impl Interface for Files {
///     const NAME: &'static str = "files";
///     type Avatar = str;
///     type Mind = ();
/// }
/// struct Machine;
/// impl Realm<Shell> for Machine {
///     async fn admit(&self, _: &Verified<Identity>, _: ()) -> Result<Session<Shell>, Denial> {
///         Ok(Session::new("/bin/sh".into()))
///     }
/// }
///
/// // What there is comes from configuration, so that the compiler cannot know it.
/// let application = Application::new().serving::<Shell>(Machine)?;
/// assert!(application.realm::<Shell>().is_ok());
/// let missing = application.realm::<Files>().unwrap_err();
/// assert_eq!(missing.to_string(), "the application has no interface `files`; it has: shell");
/// # Ok::<(), countersign::InterfaceTaken>(())
/// ```
#[derive(Clone, Default)]
pub struct Application {
    served: Vec<Served>,
}

#[derive(Clone)]
struct Served {
    interface: TypeId,
    name: &'static str,
    /// A `Serving<I>` of that interface.
    realm: Arc<dyn Any + Send + Sync>,
}

/// The realm of an application for one interface.
pub struct Serving<I: Interface>(Arc<dyn Admits<I>>);

/// An application has no such interface.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct MissingInterface {
    /// What was asked for.
    pub wanted: &'static str,
    /// What there is.
    pub has: Vec<&'static str>,
}

/// An application has that interface already: nothing replaces anything silently.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct InterfaceTaken(pub &'static str);

impl fmt::Display for MissingInterface {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { wanted, has } = self;
        match has.as_slice() {
            [] => write!(f, "the application has no interface `{wanted}`, nor any other"),
            some => write!(
                f,
                "the application has no interface `{wanted}`; it has: {}",
                some.join(", ")
            ),
        }
    }
}

impl std::error::Error for MissingInterface {}

impl fmt::Display for InterfaceTaken {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "the application has an interface `{}` already", self.0)
    }
}

impl std::error::Error for InterfaceTaken {}

impl Application {
    /// An application without interfaces.
    pub fn new() -> Self {
        Self::default()
    }

    /// The application, serving one more interface.
    ///
    /// # Errors
    ///
    /// When it serves that interface already.
    pub fn serving<I: Interface>(
        mut self,
        realm: impl Realm<I> + 'static,
    ) -> Result<Self, InterfaceTaken> {
        let interface = TypeId::of::<I>();
        if self.served.iter().any(|served| served.interface == interface) {
            return Err(InterfaceTaken(I::NAME));
        }
        let realm: Arc<dyn Any + Send + Sync> = Arc::new(Serving::<I>(Arc::new(realm)));
        self.served.push(Served { interface, name: I::NAME, realm });
        Ok(self)
    }

    /// The names of its interfaces, in the order in which they were added.
    pub fn interfaces(&self) -> impl Iterator<Item = &'static str> {
        self.served.iter().map(|served| served.name)
    }

    /// The realm for one interface.
    ///
    /// # Errors
    ///
    /// When there is none, with those that there are.
    pub fn realm<I: Interface>(&self) -> Result<Serving<I>, MissingInterface> {
        let interface = TypeId::of::<I>();
        let found = self.served.iter().find(|served| served.interface == interface);
        found
            .and_then(|served| served.realm.downcast_ref::<Serving<I>>())
            .cloned()
            .ok_or_else(|| MissingInterface { wanted: I::NAME, has: self.interfaces().collect() })
    }
}

impl fmt::Debug for Application {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Application")?;
        f.debug_list().entries(self.interfaces()).finish()
    }
}

impl<I: Interface> Clone for Serving<I> {
    fn clone(&self) -> Self {
        Self(Arc::clone(&self.0))
    }
}

impl<I: Interface> fmt::Debug for Serving<I> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Serving<{}>", I::NAME)
    }
}

impl<I: Interface> Realm<I> for Serving<I> {
    async fn admit(&self, who: &Verified<Identity>, mind: I::Mind) -> Result<Session<I>, Denial> {
        self.0.admit_erased(who, mind).await
    }
}

type Admitted<'a, I> = Pin<Box<dyn Future<Output = Result<Session<I>, Denial>> + Send + 'a>>;

trait Admits<I: Interface>: Send + Sync {
    fn admit_erased<'a>(&'a self, who: &'a Verified<Identity>, mind: I::Mind) -> Admitted<'a, I>
    where
        I::Mind: 'a;
}

impl<I: Interface, R: Realm<I>> Admits<I> for R {
    fn admit_erased<'a>(&'a self, who: &'a Verified<Identity>, mind: I::Mind) -> Admitted<'a, I>
    where
        I::Mind: 'a,
    {
        Box::pin(self.admit(who, mind))
    }
}
