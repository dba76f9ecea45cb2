//! What can happen to a text.

use proptest::{collection::vec, prelude::*, sample::Index};

use crate::corpus::Corpus;

/// What means something to one reader or another.
const PIECES: [&str; 34] = [
    "\"",
    "'",
    "\\",
    "\\\"",
    "\\n",
    "{",
    "}",
    "{{",
    "}}",
    "{%",
    "{#",
    "[",
    "]",
    ",",
    ":",
    "\n",
    "\r\n",
    "\t",
    "\u{0}",
    "\u{feff}",
    "é",
    "-",
    "---\n",
    "&a ",
    "*a",
    "<<: ",
    "!!binary ",
    "NaN",
    "+Inf",
    "1e999",
    "-0",
    "99999999999999999999",
    "null",
    "# ",
];

/// One change.
#[derive(Clone, Debug)]
pub enum Mutation {
    /// A byte becomes another.
    Flip(Index, u8),
    /// A piece is put in.
    Insert(Index, usize),
    /// So many bytes go.
    Delete(Index, u8),
    /// So many bytes are there again, further on.
    Repeat(Index, u8, Index),
    /// A number, or what stands in its place, becomes another.
    Number(Index, i64),
    /// What follows is that of another text.
    Splice(Index, Index, Index),
    /// Nothing follows.
    Cut(Index),
}

/// Some changes, one after the other.
pub fn mutations() -> impl Strategy<Value = Vec<Mutation>> {
    let at = any::<Index>;
    let mutation = prop_oneof![
        (at(), any::<u8>()).prop_map(|(at, byte)| Mutation::Flip(at, byte)),
        (at(), 0..PIECES.len()).prop_map(|(at, piece)| Mutation::Insert(at, piece)),
        (at(), any::<u8>()).prop_map(|(at, count)| Mutation::Delete(at, count)),
        (at(), any::<u8>(), at()).prop_map(|(at, count, to)| Mutation::Repeat(at, count, to)),
        (at(), any::<i64>()).prop_map(|(at, number)| Mutation::Number(at, number)),
        (at(), at(), at()).prop_map(|(at, other, from)| Mutation::Splice(at, other, from)),
        at().prop_map(Mutation::Cut),
    ];
    vec(mutation, 1..6)
}

/// The text after all of them.
pub fn mutated(text: &[u8], mutations: &[Mutation], corpus: &Corpus) -> Vec<u8> {
    mutations.iter().fold(text.to_vec(), |text, mutation| after(text, mutation, corpus))
}

fn after(mut text: Vec<u8>, mutation: &Mutation, corpus: &Corpus) -> Vec<u8> {
    if text.is_empty() {
        return text;
    }
    let place = |index: &Index, text: &[u8]| index.index(text.len());
    let end = |at: usize, count: u8, text: &[u8]| text.len().min(at + usize::from(count) / 4 + 1);
    match mutation {
        Mutation::Flip(at, byte) => {
            let at = place(at, &text);
            text[at] = *byte;
        }
        Mutation::Insert(at, piece) => {
            let at = place(at, &text);
            text.splice(at..at, PIECES[*piece].bytes());
        }
        Mutation::Delete(at, count) => {
            let at = place(at, &text);
            text.drain(at..end(at, *count, &text));
        }
        Mutation::Repeat(at, count, to) => {
            let (at, to) = (place(at, &text), place(to, &text));
            let part = text[at..end(at, *count, &text)].to_vec();
            text.splice(to..to, part);
        }
        Mutation::Number(at, number) => {
            // The first digits from there on.
            let at = place(at, &text);
            let is_digit = |byte: &u8| byte.is_ascii_digit();
            if let Some(start) = text[at..].iter().position(is_digit).map(|found| at + found) {
                let length = text[start..].iter().take_while(|byte| is_digit(byte)).count();
                text.splice(start..start + length, number.to_string().bytes());
            }
        }
        Mutation::Splice(at, other, from) => {
            let other: &Vec<u8> = other.get(corpus.texts());
            let at = place(at, &text);
            text.truncate(at);
            text.extend_from_slice(&other[place(from, other)..]);
        }
        Mutation::Cut(at) => {
            let at = place(at, &text);
            text.truncate(at);
        }
    }
    text
}
