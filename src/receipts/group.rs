//! Receipts put together by their batches.

use std::collections::BTreeMap;

use super::Delivery;
use crate::{domain::ids::BatchId, store::RECEIPTS_MAX};

/// Receipts for one batch, for one store step.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Group {
    pub(super) batch: BatchId,
    /// Where they are: the delivery, and the place in it. In the order of their messages, and of one
    /// message in the order in which they came.
    pub(super) places: Vec<(usize, usize)>,
}

/// Groups of at most [`RECEIPTS_MAX`]. Deliveries of different providers never share one.
pub(super) fn group(deliveries: &[Delivery]) -> Vec<Group> {
    let mut batches: BTreeMap<_, Vec<_>> = BTreeMap::new();
    for (number, delivery) in deliveries.iter().enumerate() {
        for (place, receipt) in delivery.receipts.iter().enumerate() {
            let whose = (receipt.message.batch, &delivery.providers);
            batches.entry(whose).or_default().push((receipt.message.index, number, place));
        }
    }
    let mut groups = Vec::with_capacity(batches.len());
    for ((batch, _), mut places) in batches {
        places.sort_unstable();
        for some in places.chunks(RECEIPTS_MAX) {
            let places = some.iter().map(|(_, delivery, place)| (*delivery, *place)).collect();
            groups.push(Group { batch, places });
        }
    }
    groups
}

#[cfg(test)]
mod tests {
    use tokio::sync::oneshot;

    use super::*;
    use crate::domain::{
        ids::MessageId,
        receipt::{Receipt, ReceiptWord},
        time::UnixMs,
    };

    fn batch(n: u64) -> BatchId {
        BatchId::new(UnixMs(1_790_000_000_000 + n), 1, 0)
    }

    fn delivery(provider: &str, messages: &[(u64, u32)]) -> Delivery {
        let receipts = messages.iter().map(|(n, index)| Receipt {
            message: MessageId { batch: batch(*n), index: *index },
            word: ReceiptWord::Delivered,
            at: None,
            error: None,
        });
        let providers = [provider.to_owned()].into();
        let answer = oneshot::channel().0;
        Delivery { providers, receipts: receipts.collect(), answer, _places: None }
    }

    #[test]
    fn receipts_of_one_batch_go_together_in_the_order_of_their_messages() {
        let deliveries = [delivery("a", &[(1, 7), (2, 0)]), delivery("a", &[(1, 3), (1, 7)])];
        let expected = [
            Group { batch: batch(1), places: vec![(1, 0), (0, 0), (1, 1)] },
            Group { batch: batch(2), places: vec![(0, 1)] },
        ];
        assert_eq!(group(&deliveries), expected);
    }

    #[test]
    fn providers_do_not_speak_for_each_other_and_groups_are_bounded() {
        let many: Vec<_> = (0..1_200).map(|index| (1, index)).collect();
        let groups = group(&[delivery("a", &many), delivery("b", &[(1, 0)])]);
        assert_eq!(
            groups.iter().map(|group| group.places.len()).collect::<Vec<_>>(),
            [500, 500, 200, 1]
        );
    }
}
