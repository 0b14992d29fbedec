//! From a borrowed key to an owned one.

use std::borrow::Cow;
use std::ffi::{CStr, CString, OsStr, OsString};
use std::hash::Hash;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use equivalent::Equivalent;

/// A form of a key that calls can be made with: `&str` for a store of `String`, and so on.
///
/// A key is converted only when it is new (and by [`counter`](crate::CounterStore::counter), whose
/// handle keeps it). Every key that is `Clone` is a form of itself. Pass `k`, not `&k`, for `k:
/// &str`; `&b"abc"[..]` for bytes; `&"x"` where the keys are `&'static str`. For a form of your
/// own, implement [`Equivalent`](crate::Equivalent) and `Hash` so that both agree with the key's
/// `Eq` and `Hash`, then this.
///
/// ```
/// use counterclock::{CounterStore, Equivalent, ToKey};
///
/// #[derive(PartialEq, Eq, Hash)]
/// struct Endpoint { host: String, port: u16 }
///
/// #[derive(Hash)]
/// struct EndpointRef<'a> { host: &'a str, port: u16 }
///
/// impl Equivalent<Endpoint> for EndpointRef<'_> {
///     fn equivalent(&self, key: &Endpoint) -> bool {
///         self.host == key.host && self.port == key.port
///     }
/// }
///
/// impl ToKey<Endpoint> for EndpointRef<'_> {
///     fn to_key(&self) -> Endpoint {
///         Endpoint { host: self.host.to_owned(), port: self.port }
///     }
/// }
///
/// let store = CounterStore::<Endpoint>::new(100);
/// assert_eq!(store.increment(&EndpointRef { host: "::1", port: 80 }), 1);
/// assert_eq!(store.increment(&EndpointRef { host: "::1", port: 80 }), 2);
/// ```
#[diagnostic::on_unimplemented(
    message = "`{Self}` is no form of the key `{K}`",
    note = "pass `k`, not `&k`, for `k: &str`; `&b\"abc\"[..]` for bytes; a key is a form of itself if it is `Clone` (else `increment_owned`); or implement `ToKey<{K}>` for `{Self}`"
)]
pub trait ToKey<K>: Hash + Equivalent<K> {
    /// Whether the conversion is std's alone: then it need not be done outside pins.
    #[doc(hidden)]
    const IS_PLAIN: bool = false;

    /// The owned key. Called outside any critical section.
    fn to_key(&self) -> K;
}

impl<K: Clone + Hash + Eq> ToKey<K> for K {
    fn to_key(&self) -> K {
        self.clone()
    }
}

macro_rules! to_key {
    ($($borrowed:ty => $($owned:ty),+;)+) => {$($(
        impl ToKey<$owned> for $borrowed {
            const IS_PLAIN: bool = true;

            fn to_key(&self) -> $owned {
                self.into()
            }
        }
    )+)+};
}

to_key! {
    str => String, Box<str>, Arc<str>;
    OsStr => OsString, Box<OsStr>, Arc<OsStr>;
    CStr => CString, Box<CStr>, Arc<CStr>;
    Path => PathBuf, Box<Path>, Arc<Path>;
}

macro_rules! slice_to_key {
    ($($owned:ty),+) => {$(
        impl<T: Clone + Hash + Eq> ToKey<$owned> for [T] {
            fn to_key(&self) -> $owned {
                self.into()
            }
        }
    )+};
}

slice_to_key!(Vec<T>, Box<[T]>, Arc<[T]>);

impl ToKey<Cow<'static, str>> for str {
    const IS_PLAIN: bool = true;

    fn to_key(&self) -> Cow<'static, str> {
        Cow::Owned(self.to_owned())
    }
}
