//! What a query says about both predictors, where its numbers can be compared: one rule for a source that was asked and for a
//! rehearsal.

use super::{Both, Trouble, TroubleKind};

/// What both say, where both say something that can be compared.
///
/// # Errors
/// One of them is trouble, or a number below 0: of such numbers no ratio can be told.
pub fn scored(canary: Result<f64, Trouble>, stable: Result<f64, Trouble>) -> Result<Both, Trouble> {
    Ok(Both::Scored { canary: comparable(canary, "the canary")?, stable: comparable(stable, "stable")? })
}

/// An answer as a half of a comparison, `about` one of the predictors.
///
/// # Errors
/// It is trouble, which then says about whom, or a number below 0.
pub fn comparable(answer: Result<f64, Trouble>, about: &str) -> Result<f64, Trouble> {
    match answer {
        Ok(number) if number >= 0.0 => Ok(number),
        Ok(number) => Err(Trouble {
            kind: TroubleKind::BadQuery,
            message: format!(
                "the query answered {number} about {about}: a comparison needs numbers of 0 or more"
            ),
        }),
        Err(trouble) => {
            Err(Trouble { message: format!("about {about}: {}", trouble.message), kind: trouble.kind })
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_below_zero_are_trouble_that_names_the_predictor() {
        for (canary, stable, about) in [
            (-2.0, 1.0, "-2 about the canary"),
            (1.0, -0.5, "-0.5 about stable"),
            (f64::NAN, 1.0, "NaN about"),
        ] {
            let trouble = scored(Ok(canary), Ok(stable)).unwrap_err();
            assert_eq!(trouble.kind, TroubleKind::BadQuery);
            assert!(trouble.message.contains(about), "{trouble}");
        }
        assert_eq!(scored(Ok(0.0), Ok(0.9)), Ok(Both::Scored { canary: 0.0, stable: 0.9 }));
    }

    #[test]
    fn trouble_with_one_of_them_stays_what_it_is() {
        let gone = Trouble { kind: TroubleKind::NoData, message: "an empty vector".to_owned() };
        let trouble = scored(Ok(1.0), Err(gone)).unwrap_err();
        assert_eq!(
            (trouble.kind, trouble.message.as_str()),
            (TroubleKind::NoData, "about stable: an empty vector")
        );
    }
}
