//! `GET /v1/size`: how many seats a mix of employees needs (API 4, P1-P3).

use usherd_subscription::sizing::{EMPLOYEES_PER_TYPE_MAX, Mix, Sizing, Target, sizing};

use super::Worker;
use super::routes::{Call, HandlerResult};
use crate::answers::pricing::{Risk, Size};

impl Worker {
    /// `GET /v1/size?types=5,10,5,10`
    pub(super) async fn size(&self, call: &Call<'_>) -> HandlerResult {
        let query = call.query()?;
        let types = query.get("types").unwrap_or_default();
        let mix = types_of(&types).map_err(|what| query.fault("types", what))?;
        // The largest mixes take milliseconds, which decisions would wait for.
        self.answer_blocking(move |_| match sizing(mix, Target::default()) {
            Ok(sizing) => Ok(size_of(&sizing)),
            Err(unfit) => Err(query.fault("types", format!("has {unfit}"))),
        })
        .await
    }
}

/// A sizing as it is answered (API 7), the probabilities with nine digits.
pub fn size_of(sizing: &Sizing) -> Size {
    let digits = |share: f64| (share * 1e9).round() / 1e9;
    let risk = sizing.risk.iter().map(|risk| Risk { seats: risk.seats, probability: digits(risk.probability) });
    Size {
        employees: sizing.brochure.employees,
        tenths: sizing.brochure.tenths,
        seats: sizing.brochure.seats,
        safe_seats: sizing.safe_seats,
        risk: risk.collect(),
    }
}

/// Four numbers with commas between them.
fn types_of(text: &str) -> Result<Mix, String> {
    let numbers: Option<Vec<u32>> = text.split(',').map(|word| word.trim().parse().ok()).collect();
    let four = numbers.and_then(|numbers| <[u32; 4]>::try_from(numbers).ok());
    let four = four.ok_or_else(|| {
        format!(
            "must be four whole numbers from 0 to {EMPLOYEES_PER_TYPE_MAX}, employees of type 1 to 4, as in 5,10,5,10"
        )
    })?;
    Mix::new(four).map_err(|unfit| format!("has {unfit}"))
}
