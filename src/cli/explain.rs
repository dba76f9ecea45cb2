//! `sluice explain`: why a decision was made, in sentences with the numbers it was made on.

use chrono::Utc;
use clap::Args;
use sluice_core::api::{Decision, RolloutStatus};

use super::{
    Session,
    exit::Failure,
    get, names,
    output::{self, Plain, write},
    view,
};

/// Say why a decision was made, with the numbers it was made on
#[derive(Clone, Debug, Default, Args)]
pub struct ExplainArgs {
    /// The Rollout
    #[arg(value_parser = names::object)]
    pub name: String,
    /// Number of the decision; the last one where nothing is said
    #[arg(short, long, value_name = "N", value_parser = number, allow_negative_numbers = true)]
    pub decision: Option<u64>,
    /// The form of the output
    #[arg(short, long, value_enum, default_value_t)]
    pub output: Plain,
}

/// Reads the number of a decision.
fn number(text: &str) -> Result<u64, String> {
    match text.parse() {
        Ok(0) | Err(_) => Err("decisions are numbered 1, 2, 3 and so on".to_owned()),
        Ok(number) => Ok(number),
    }
}

/// Explains a decision.
pub async fn explain(session: &mut Session<'_>, args: &ExplainArgs) -> Result<(), Failure> {
    let rollout = get::rollout(session, &args.name).await?;
    let status = rollout.status.clone().unwrap_or_default();
    let decision = chosen(&status, args)?;
    let text = match args.output {
        Plain::Text => view::explanation(&rollout, &status, decision, Utc::now(), &session.screen),
        Plain::Json => output::json(decision)?,
        Plain::Yaml => output::yaml(decision)?,
        Plain::Name => format!("{}\n", decision.seq),
    };
    write(session.out, &text)
}

fn chosen<'s>(status: &'s RolloutStatus, args: &ExplainArgs) -> Result<&'s Decision, Failure> {
    let name = &args.name;
    let (Some(first), Some(last)) = (status.decisions.first(), status.decisions.last()) else {
        return Err(Failure::Other(format!("nothing was decided about the Rollout {name:?} yet")));
    };
    let Some(wanted) = args.decision else { return Ok(last) };
    status.decisions.iter().find(|decision| decision.seq == wanted).ok_or_else(|| {
        Failure::Other(format!(
            "decision {wanted} of the Rollout {name:?} is not on record: the last ones are, {} to {}",
            first.seq, last.seq
        ))
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cli::view::fixtures::explained;

    #[test]
    fn as_json_a_decision_has_both_arms_the_rule_the_evidence_the_interval_and_what_was_written() {
        let status = explained().status.unwrap();
        let args = ExplainArgs { name: "iris".into(), ..ExplainArgs::default() };
        insta::assert_snapshot!(output::json(chosen(&status, &args).unwrap()).unwrap());
    }
}
