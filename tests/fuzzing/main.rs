//! What others write, broken in every way that chance finds: `/metrics` of predictors, answers of Prometheus servers, templates
//! of queries, files with Rollouts and scenarios. The readers' own promises are checked in `sluice::fuzzing`; here are real
//! texts, what is done to them, and texts that were made to hurt. `fuzz/` gives the same functions to a fuzzer.
#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a test that cannot go on fails")]

mod corpus;
mod hostile;
mod mutation;

use proptest::{prelude::*, sample::Index};
use sluice::fuzzing;

use crate::{
    corpus::Corpus,
    mutation::{Mutation, mutated, mutations},
};

/// So many texts for each reader: a second or two, where nothing is optimised.
const CASES: u32 = 800;

/// Gives a reader each text of a corpus as it is, and then what chance makes of them.
fn breaks_nothing(corpus: &Corpus, reader: fn(&[u8])) {
    corpus.texts().iter().for_each(|text| reader(text));
    let config = ProptestConfig { cases: CASES, failure_persistence: None, ..ProptestConfig::default() };
    let cases = (any::<Index>(), mutations());
    proptest!(config, |((which, mutations) in cases)| {
        let which: Index = which;
        let mutations: Vec<Mutation> = mutations;
        let text: &Vec<u8> = which.get(corpus.texts());
        reader(&mutated(text, &mutations, corpus));
    });
}

#[test]
fn expositions() {
    breaks_nothing(&Corpus::of("tests/fuzzing/corpus/exposition"), fuzzing::exposition);
}

#[test]
fn answers_of_a_source() {
    breaks_nothing(&Corpus::of("tests/fuzzing/corpus/answer"), fuzzing::answer);
}

#[test]
fn templates_of_queries() {
    breaks_nothing(&Corpus::of("tests/fuzzing/corpus/template"), fuzzing::template);
}

#[test]
fn files_with_rollouts() {
    breaks_nothing(&Corpus::of("examples").and("tests/fuzzing/corpus/rollout"), fuzzing::rollout);
}

#[test]
fn files_with_scenarios() {
    breaks_nothing(&Corpus::of("examples/scenarios").and("tests/fuzzing/corpus/scenario"), fuzzing::scenario);
}

#[test]
fn anything_at_all() {
    let config = ProptestConfig { cases: CASES, failure_persistence: None, ..ProptestConfig::default() };
    proptest!(config, |(bytes in prop::collection::vec(any::<u8>(), 0..200))| {
        for reader in hostile::READERS {
            reader(&bytes);
        }
    });
}
