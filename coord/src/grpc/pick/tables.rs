//! [`Tables`]: the weights of a set, as intervals that are drawn from.

use rand::RngCore;

use super::below;
use crate::grpc::ready::Member;

/// All numbers of 64 bits, cut into one interval for each member, as long as its weight says: a number
/// is drawn, and whose interval it lies in is looked up by bisection.
///
/// Immutable, as the set is that it belongs to: other weights make another set, whose first pick is in
/// the new proportion.
#[derive(Debug, Default)]
pub(in crate::grpc) struct Tables {
    /// Where each interval ends, and the next begins. That of the last is all that is left.
    ends: Box<[u64]>,
    /// One over the weight, relative to the mean: what one call in flight means to a member.
    relative: Box<[f64]>,
}

impl Tables {
    // Of a product of a fraction and 2⁶⁴ the whole part is wanted; 2⁶⁴ itself becomes the largest number.
    #[expect(
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        clippy::cast_precision_loss
    )]
    pub(super) fn of(members: &[Member]) -> Self {
        const WHOLE: f64 = u64::MAX as f64;
        let total: f64 = members.iter().map(|member| member.weight).sum();
        let mean = total / members.len() as f64;
        let mut sum = 0.0;
        let end = |member: &Member| {
            sum += member.weight;
            (sum / total * WHOLE) as u64
        };
        Self {
            ends: members.iter().map(end).collect(),
            relative: members.iter().map(|one| mean / one.weight).collect(),
        }
    }

    /// Whose interval a number lies in.
    pub(super) fn at(&self, number: u64) -> usize {
        let last = self.ends.len().saturating_sub(1);
        self.ends[..last].partition_point(|&end| end <= number)
    }

    /// One, as likely as its weight says.
    pub(super) fn draw(&self, dice: &mut impl RngCore) -> usize {
        self.at(dice.next_u64())
    }

    /// Another than `first`, as likely as its weight says among the others: `first`'s interval is cut
    /// out of what is drawn from. There must be another.
    pub(super) fn draw_other(&self, first: usize, dice: &mut impl RngCore) -> usize {
        let start = first.checked_sub(1).map_or(0, |before| self.ends[before]);
        let end = self
            .ends
            .get(first + 1)
            .map_or(u64::MAX, |_| self.ends[first]);
        let length = end - start;
        let number = below(u64::MAX - length, dice);
        let other = self.at(if number < start {
            number
        } else {
            number + length
        });
        // Its own only by rounding: where nearly all the weight is on one, nothing may be left of the
        // others' intervals.
        if other == first {
            (first + 1) % self.ends.len()
        } else {
            other
        }
    }

    /// How much one call in flight is to a member: less, the larger its weight; with equal weights one.
    pub(super) fn relative(&self, index: usize) -> f64 {
        self.relative[index]
    }
}
