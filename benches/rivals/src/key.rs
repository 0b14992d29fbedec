//! Keys: the texts of UUIDs, and plain numbers.

use std::hash::Hash;

use counterclock::ToKey;
use rand::rngs::SmallRng;
use rand::{RngExt, SeedableRng};

/// A borrowed form of a key that every store here can be asked with: `str` for `String`, `u64` for
/// itself.
pub trait Form:
    Hash + Eq + Sync + 'static + ToKey<<Self as ToOwned>::Owned> + ToOwned<Owned: Owned>
{
}

/// What a store keeps.
pub trait Owned: Hash + Eq + Clone + Send + Sync + 'static {}

impl<K: Hash + Eq + Clone + Send + Sync + 'static> Owned for K {}

impl Form for str {}
impl Form for u64 {}

/// The length of a UUID's text.
pub const LENGTH: usize = 36;

/// The `id`-th UUID's text: any of millions can be written again, so that none has to be kept.
pub fn uuid(id: u64) -> [u8; LENGTH] {
    let mut rng = SmallRng::seed_from_u64(id);
    let mut text = [0; LENGTH];
    uuid::Builder::from_random_bytes(rng.random()).into_uuid().hyphenated().encode_lower(&mut text);
    text
}

/// The texts of many, in one piece of memory.
#[derive(Default)]
pub struct Texts(String);

impl Texts {
    pub fn with_capacity(keys: usize) -> Self {
        Self(String::with_capacity(keys * LENGTH))
    }

    pub fn push(&mut self, id: u64) {
        let text = uuid(id);
        self.0.push_str(std::str::from_utf8(&text).expect("hexadecimal digits and hyphens"));
    }

    pub fn get(&self, at: usize) -> &str {
        &self.0[at * LENGTH..][..LENGTH]
    }

    pub fn len(&self) -> usize {
        self.0.len() / LENGTH
    }

    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}

impl FromIterator<u64> for Texts {
    fn from_iter<I: IntoIterator<Item = u64>>(ids: I) -> Self {
        let ids = ids.into_iter();
        let mut texts = Self::with_capacity(ids.size_hint().0);
        ids.for_each(|id| texts.push(id));
        texts
    }
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use super::*;

    #[test]
    fn each_id_has_a_text_of_its_own_and_always_the_same() {
        let texts: Texts = (0..1000).collect();
        let distinct: HashSet<_> = (0..1000).map(|at| texts.get(at)).collect();
        assert_eq!((texts.len(), distinct.len()), (1000, 1000));
        assert_eq!(texts.get(7).as_bytes(), uuid(7));
        assert_eq!(texts.get(7).len(), LENGTH);
    }
}
