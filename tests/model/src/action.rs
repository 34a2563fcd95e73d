//! [`Action`]: one step of somebody. The calm ones happen by themselves when nothing goes wrong and
//! nobody wants anything new; the others are chances.

use crate::{
    mutation::Mutation,
    protocol::Protocol,
    scenario::Mode,
    view::Step,
    world::{GoPhase, Late, Moving, Phase, Signal, Undo, World},
};

/// See the [module](self). Attempts, sessions, watches, keys by their number.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Action {
    /// The acquire reaches etcd.
    Apply(u8),
    /// The acquires of two attempts reach etcd in one transaction.
    Together(u8, u8),
    /// The undo of the first attempt and the acquire of the second reach etcd in one transaction.
    Riding(u8, u8),
    /// The acquire's answer reaches the attempt.
    Answer(u8),
    /// The attempt is granted, or ends because its entry is gone.
    Decide(u8),
    /// The attempt's queue read at a name reaches etcd.
    Read(u8, u8),
    /// Its answer reaches the client.
    ReadAnswer(u8, u8),
    /// A safety read is due.
    Audit(u8, u8),
    /// The holder releases.
    Release(u8),
    /// The undo is applied, and its answer reaches the client.
    Undo(u8),
    /// The attempt ends because its session is lost.
    Lose(u8),
    /// The delete by which it downgrades is applied and answered.
    Part(u8),
    /// A move of the entry reaches etcd.
    ApplyMove(u8),
    /// The move's answer reaches the client.
    MoveAnswer(u8),
    /// A wanted watch is opened.
    Open(u8),
    /// The next signal reaches the client.
    Hear(u8),
    /// A lost session's lease ends.
    Expire(u8),
    /// The client hears that the session key is gone.
    HearLost(u8),
    /// The Go peer sees that it is the first.
    GoOwn,
    /// The Go peer releases.
    GoRelease,

    /// An acquire is sent.
    Start(u8),
    /// The caller of an acquire goes away.
    Cancel(u8),
    /// The acquire's answer does not come in time.
    Timeout(u8),
    /// The acquire is refused for good.
    Refuse(u8),
    /// The undo's answer does not come in time; a copy of it is still under way.
    UndoLate(u8),
    /// The undo is applied, and its answer lost.
    UndoAnswerLost(u8),
    /// The answer to the delete of a downgrade does not come in time.
    PartLate(u8),
    /// etcd is too full for the barrier.
    NoSpace(u8),
    /// A request that nobody waits for is applied.
    Late(u8),
    /// Two requests that nobody waits for are applied, in one transaction: two acquires, or an acquire
    /// after an undo.
    LateTogether(u8, u8),
    /// A watch breaks.
    Break(u8),
    /// A deletion is not told.
    Swallow(u8),
    /// A wanted watch is opened at a member that has not seen the last deletion.
    OpenLagging(u8),
    /// A watch that nobody needs is closed.
    Close(u8),
    /// The session's deadline passes.
    Past(u8),
    /// The session is renewed after its deadline: a mutation.
    Resume(u8),
    /// The lease is revoked from outside.
    Revoke(u8),
    /// An entry is deleted from outside.
    DeleteEntry(u8),
    /// A session key is deleted from outside.
    DeleteSession(u8),
    /// The client hears of the session's new incarnation.
    Adopt(u8),
    /// The holder sends a guarded write.
    Write(u8),
    /// The holder downgrades.
    Downgrade(u8),
    /// The holder starts to move its entry.
    Move(u8),
    /// The move's answer does not come in time.
    MoveTimeout(u8),
    /// The Go peer enters the queue.
    GoPut,
}

impl Protocol {
    /// What happens by itself.
    pub(crate) fn calm(&self, world: &World, add: &mut impl FnMut(Action)) {
        for a in 0..world.attempts.len() as u8 {
            self.calm_attempt(world, a, add);
        }
        for (index, watch) in world.watches.iter().enumerate() {
            let index = index as u8;
            if watch.wanted && !watch.exists {
                add(Action::Open(index));
            }
            if !watch.signals.is_empty() {
                add(Action::Hear(index));
            }
        }
        for (index, session) in world.sessions.iter().enumerate() {
            let lease = world.store.leases[index];
            let index = index as u8;
            if lease.alive && (session.past || session.lost) {
                add(Action::Expire(index));
            }
            if lease.key == 0 && !session.lost {
                add(Action::HearLost(index));
            }
        }
        match world.go.phase {
            GoPhase::Idle => {}
            GoPhase::Queued => {
                let key = usize::from(self.go_index());
                let created = world.store.entries[key].created;
                if self.before(world, self.relevant[key], created) == 0 {
                    add(Action::GoOwn);
                }
            }
            GoPhase::Owner => add(Action::GoRelease),
        }
    }

    fn calm_attempt(&self, world: &World, a: u8, add: &mut impl FnMut(Action)) {
        let attempt = &world.attempts[usize::from(a)];
        if attempt.part {
            add(Action::Part(a));
        }
        match attempt.phase {
            Phase::Idle | Phase::Done => return,
            Phase::Undo(undo) => {
                add(Action::Undo(a));
                for b in 0..world.attempts.len() as u8 {
                    let sent = matches!(world.attempts[usize::from(b)].phase, Phase::Sent(_));
                    if sent && self.rides(a, undo.barrier, b) {
                        add(Action::Riding(a, b));
                    }
                }
                return;
            }
            Phase::Sent(_) => {
                add(Action::Apply(a));
                for b in a + 1..world.attempts.len() as u8 {
                    let sent = matches!(world.attempts[usize::from(b)].phase, Phase::Sent(_));
                    if sent && self.go_together(a, b) {
                        add(Action::Together(a, b));
                    }
                }
            }
            Phase::Answered(_) => add(Action::Answer(a)),
            Phase::Queued => {
                if self.decided(world, a) {
                    add(Action::Decide(a));
                }
            }
            Phase::Owner => add(Action::Release(a)),
        }
        if self.must_end(world, a) {
            add(Action::Lose(a));
        }
        match attempt.moving {
            Moving::No => {}
            Moving::Sent => add(Action::ApplyMove(a)),
            Moving::Answered(_) => add(Action::MoveAnswer(a)),
        }
        let reads = match attempt.phase {
            Phase::Queued => true,
            Phase::Owner => !self.mutated(Mutation::HolderNotVerified),
            _ => false,
        };
        for (name, view) in attempt.views.iter().enumerate() {
            let Some(view) = view else { continue };
            if view.read.is_some() {
                add(Action::ReadAnswer(a, name as u8));
            } else if reads && view.step(self, self.me(world, a, name)) == Step::Read {
                add(Action::Read(a, name as u8));
            } else if reads && view.owed && !view.audit && view.known.is_some() {
                add(Action::Audit(a, name as u8));
            }
        }
    }

    /// What may happen besides.
    pub(crate) fn chances(&self, world: &World, add: &mut impl FnMut(Action)) {
        let faults = world.faults;
        for a in 0..world.attempts.len() as u8 {
            self.chances_of(world, a, add);
        }
        for index in 0..world.late.len() as u8 {
            // Of equal copies one stands for all.
            let index = usize::from(index);
            if index == 0 || world.late[index] != world.late[index - 1] {
                add(Action::Late(index as u8));
            }
            for second in index + 1..world.late.len() {
                if self.late_together(world, index, second) {
                    add(Action::LateTogether(index as u8, second as u8));
                }
            }
        }
        for (index, watch) in world.watches.iter().enumerate() {
            let at = index as u8;
            if watch.exists && faults.watch > 0 {
                add(Action::Break(at));
            }
            if faults.swallow > 0 && matches!(watch.signals.first(), Some(Signal::Deleted(..))) {
                add(Action::Swallow(at));
            }
            if watch.wanted && !watch.exists && faults.lag > 0 && world.store.last.is_some() {
                add(Action::OpenLagging(at));
            }
            if watch.wanted && faults.linger > 0 && !self.is_watched(world, index) {
                add(Action::Close(at));
            }
        }
        for (index, session) in world.sessions.iter().enumerate() {
            let lease = world.store.leases[index];
            let at = index as u8;
            if lease.alive && !session.past && faults.past > 0 {
                add(Action::Past(at));
            }
            if lease.alive && session.past && self.mutated(Mutation::LeaseResumed) {
                add(Action::Resume(at));
            }
            if lease.alive && faults.revoke > 0 {
                add(Action::Revoke(at));
            }
            if lease.key > 0 && faults.delete_session > 0 {
                add(Action::DeleteSession(at));
            }
            if self.scenario.adopts && lease.key > session.incarnation {
                add(Action::Adopt(at));
            }
        }
        if faults.delete_entry > 0 {
            for (key, slot) in world.store.entries.iter().enumerate() {
                if slot.created > 0 && self.keys[key].attempt.is_some() {
                    add(Action::DeleteEntry(key as u8));
                }
            }
        }
        if world.go.phase == GoPhase::Idle && world.go.rounds > 0 {
            add(Action::GoPut);
        }
    }

    fn chances_of(&self, world: &World, a: u8, add: &mut impl FnMut(Action)) {
        let faults = world.faults;
        let attempt = &world.attempts[usize::from(a)];
        let plan = &self.scenario.attempts[usize::from(a)];
        if attempt.part && faults.late > 0 {
            add(Action::PartLate(a));
        }
        match attempt.phase {
            Phase::Idle => {
                let session = world.sessions[usize::from(plan.session)];
                let used = plan
                    .reuses
                    .is_some_and(|of| !world.attempts[usize::from(of)].free);
                if !session.past && !session.lost && !used {
                    add(Action::Start(a));
                }
            }
            Phase::Sent(_) | Phase::Answered(_) => {
                if faults.cancel > 0 {
                    add(Action::Cancel(a));
                }
                if faults.late > 0 {
                    add(Action::Timeout(a));
                }
                if faults.refuse > 0 && matches!(attempt.phase, Phase::Sent(_)) {
                    add(Action::Refuse(a));
                }
            }
            Phase::Queued => {
                if faults.cancel > 0 {
                    add(Action::Cancel(a));
                }
            }
            Phase::Owner => {
                if self.scenario.writes && !attempt.wrote {
                    add(Action::Write(a));
                }
                if self.scenario.downgrades
                    && plan.mode == Mode::Downgradable
                    && !attempt.downgraded
                {
                    add(Action::Downgrade(a));
                }
                if attempt.moving == Moving::No
                    && plan.moves.len() > usize::from(attempt.moved)
                    && self.believes(world, a)
                {
                    add(Action::Move(a));
                }
                if attempt.moving != Moving::No && faults.late > 0 {
                    add(Action::MoveTimeout(a));
                }
            }
            Phase::Undo(Undo { barrier, sweep, .. }) => {
                if faults.late > 0 {
                    add(Action::UndoLate(a));
                    add(Action::UndoAnswerLost(a));
                }
                if barrier && !sweep && faults.refuse > 0 {
                    add(Action::NoSpace(a));
                }
            }
            Phase::Done => {}
        }
    }

    /// Somebody of the watch's client has a place there.
    fn is_watched(&self, world: &World, watch: usize) -> bool {
        (0..world.attempts.len() as u8).any(|a| {
            let views = &world.attempts[usize::from(a)].views;
            self.names_of(a)
                .any(|name| views[name].is_some() && self.watch(a, name) == watch)
        })
    }

    pub(crate) fn act(&self, world: &mut World, action: Action) {
        match action {
            Action::Apply(a) => self.apply(world, a),
            Action::Together(a, b) => {
                self.together(
                    world,
                    |world| self.apply(world, a),
                    |world| self.apply(world, b),
                );
            }
            Action::Riding(a, b) => {
                self.together(
                    world,
                    |world| self.undone(world, a),
                    |world| self.apply(world, b),
                );
            }
            Action::Answer(a) => self.answer(world, a),
            Action::Decide(a) => self.decide(world, a),
            Action::Read(a, name) => self.send_read(world, a, usize::from(name)),
            Action::ReadAnswer(a, name) => self.read_answer(world, a, usize::from(name)),
            Action::Audit(a, name) => self.audit(world, a, usize::from(name)),
            Action::Release(a) => self.release(world, a),
            Action::Undo(a) => self.undone(world, a),
            Action::Lose(a) => self.lose(world, a),
            Action::Part(a) => {
                self.delete_part(world, a);
                world.attempts[usize::from(a)].part = false;
            }
            Action::ApplyMove(a) => self.apply_move(world, a),
            Action::MoveAnswer(a) => self.move_answer(world, a),
            Action::Open(watch) => {
                let revision = world.store.revision;
                let watch = &mut world.watches[usize::from(watch)];
                watch.exists = true;
                watch.signals = vec![Signal::Opened(revision)];
            }
            Action::Hear(watch) => self.hear(world, usize::from(watch)),
            Action::Expire(session) => self.end_lease(world, session),
            Action::HearLost(session) => world.sessions[usize::from(session)].lost = true,
            Action::GoOwn => world.go.phase = GoPhase::Owner,
            Action::GoRelease => {
                self.delete(world, self.go_key());
                world.go.phase = GoPhase::Idle;
            }
            Action::Start(a) => self.start(world, a),
            Action::GoPut => {
                world.go.rounds -= 1;
                world.go.phase = GoPhase::Queued;
                self.go_put(world);
            }
            chance => self.chance(world, chance),
        }
    }

    fn chance(&self, world: &mut World, action: Action) {
        match action {
            Action::Cancel(a) => {
                world.faults.cancel -= 1;
                self.cancel(world, a);
            }
            Action::Timeout(a) => {
                world.faults.late -= 1;
                self.timeout(world, a);
            }
            Action::Refuse(a) => {
                world.faults.refuse -= 1;
                self.refuse(world, a);
            }
            Action::UndoLate(a) => {
                world.faults.late -= 1;
                self.undo_late(world, a);
            }
            Action::UndoAnswerLost(a) => {
                world.faults.late -= 1;
                self.undo_answer_lost(world, a);
            }
            Action::NoSpace(a) => {
                world.faults.refuse -= 1;
                self.no_space(world, a);
            }
            Action::Late(index) => self.late(world, usize::from(index)),
            Action::LateTogether(first, second) => {
                // The second first: it moves up when the first is gone.
                let [second, first] = [second, first].map(usize::from);
                self.together(
                    world,
                    |world| self.late(world, second),
                    |world| self.late(world, first),
                );
            }
            Action::Break(watch) => {
                world.faults.watch -= 1;
                self.break_watch(world, usize::from(watch));
            }
            Action::Swallow(watch) => {
                world.faults.swallow -= 1;
                self.swallow(world, usize::from(watch));
            }
            Action::OpenLagging(watch) => {
                world.faults.lag -= 1;
                self.open_lagging(world, usize::from(watch));
            }
            Action::Close(watch) => {
                world.faults.linger -= 1;
                world.watches[usize::from(watch)] = crate::world::Watch::default();
            }
            Action::Past(session) => {
                world.faults.past -= 1;
                world.sessions[usize::from(session)].past = true;
            }
            Action::Resume(session) => world.sessions[usize::from(session)].past = false,
            Action::Revoke(session) => {
                world.faults.revoke -= 1;
                self.tamper_session(world, session);
                self.end_lease(world, session);
            }
            Action::DeleteEntry(key) => {
                world.faults.delete_entry -= 1;
                for (attempt, own) in world.attempts.iter_mut().zip(&self.own) {
                    let open = !matches!(attempt.phase, Phase::Idle | Phase::Done);
                    attempt.tampered |= open && own & (1 << key) != 0;
                }
                self.delete(world, 1 << key);
            }
            Action::DeleteSession(session) => {
                world.faults.delete_session -= 1;
                world.store.revision += 1;
                world.store.leases[usize::from(session)].key = 0;
            }
            Action::Adopt(session) => self.adopt(world, session),
            Action::Write(a) => {
                let attempt = &mut world.attempts[usize::from(a)];
                attempt.wrote = true;
                let token = attempt.created;
                self.send_late(world, Late::Write { attempt: a, token });
            }
            Action::Downgrade(a) => {
                let attempt = &mut world.attempts[usize::from(a)];
                attempt.downgraded = true;
                attempt.part = true;
            }
            Action::PartLate(a) => {
                world.faults.late -= 1;
                world.attempts[usize::from(a)].dirty = self.is_reused(a);
                self.send_late(world, Late::Downgrade { attempt: a });
            }
            Action::Move(a) => world.attempts[usize::from(a)].moving = Moving::Sent,
            Action::MoveTimeout(a) => {
                world.faults.late -= 1;
                self.move_timeout(world, a);
            }
            calm => unreachable!("{calm:?} is no chance"),
        }
    }
}
