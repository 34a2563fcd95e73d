//! What etcd does with a request, and with a lease that ends.

use super::{
    Ids, Lapse, Life,
    world::{Answer, Request, World},
};

impl Ids {
    pub(super) fn free(&self, world: &mut World, slot: u8) {
        world.slots[usize::from(slot)] = None;
        world.freed[usize::from(slot)] = world.rev;
    }

    pub(super) fn end_lease(&self, world: &mut World, life: Life) {
        if !std::mem::replace(&mut world.leases[usize::from(life)], false) {
            return;
        }
        world.rev += 1;
        for slot in 0..self.bounds.slots {
            if world.slots[usize::from(slot)].is_some_and(|(_, of)| of == life) {
                self.free(world, slot);
            }
        }
        world.owners[usize::from(life)] = (0, 0);
        world.given_back[usize::from(life)] = false;
    }

    pub(super) fn claim(&self, world: &mut World, life: Life, turned: bool) -> Answer {
        let at = usize::from(life);
        let (owned, of) = world.owners[at];
        if owned > 0 {
            if self.is(Lapse::OwnerTrusted) {
                return Answer::Mine(of, owned);
            }
            let mine = (0..self.bounds.slots)
                .find(|slot| world.slots[usize::from(*slot)] == Some((owned, life)));
            return mine.map_or(Answer::Spent, |slot| Answer::Mine(slot, owned));
        }
        let mut order: Vec<u8> = (0..self.bounds.slots).collect();
        if turned {
            order.reverse();
        }
        let free = order
            .into_iter()
            .find(|slot| world.slots[usize::from(*slot)].is_none());
        let Some(slot) = free else {
            return Answer::Full(world.rev);
        };
        if !world.leases[at] {
            return Answer::Spent;
        }
        world.odd |=
            world.given_back[at] || world.slots.iter().flatten().any(|(_, of)| *of == life);
        world.rev += 1;
        world.slots[usize::from(slot)] = Some((world.rev, life));
        if !self.is(Lapse::NoOwner) {
            world.owners[at] = (world.rev, slot);
        }
        Answer::Mine(slot, world.rev)
    }

    pub(super) fn apply(&self, world: &mut World, request: Request) -> Answer {
        match request {
            // "It exists" is as good.
            Request::Grant(life) => {
                world.leases[usize::from(life)] = true;
                Answer::Granted
            }
            Request::Claim { life, turned } => self.claim(world, life, turned),
            Request::Release { life, slot, epoch } => {
                let found = world.slots[usize::from(slot)];
                let mine = found.is_some_and(|(since, _)| since == epoch);
                if mine || self.is(Lapse::ReleaseNotCompared) && found.is_some() {
                    world.rev += 1;
                    self.free(world, slot);
                    if mine {
                        world.given_back[usize::from(life)] = true;
                    }
                    if self.is(Lapse::OwnerDeleted) {
                        world.owners[usize::from(life)] = (0, 0);
                    }
                }
                Answer::Released
            }
        }
    }
}
