//! `programs`: one program with a fixed argument template. It is started by systemd or the launcher in the jail that the grant
//! describes; the runner checks the file, and starts nothing itself.
//!
//! A program that only looks runs in the dry run too. One that changes something is an effect, and what it says is told to the
//! remedy afterwards.

use theriac_authority::effective::{BoundProgram, Filled};
use theriac_model::call::Reply;
use theriac_model::denial::{Denial, DenialCause};
use theriac_model::effect::{Effect, Observed, Undo, UndoClass, UndoOutcome};
use theriac_model::id::Label;
use theriac_model::plan::Guard;
use theriac_model::program::{ProgramCall, ProgramEffect, ProgramEnding, ProgramOutput, ProgramSpec, SlotValue};
use theriac_model::units::Blob;
use theriac_protocol::program::check_all;

use crate::exchange::chain;
use crate::gate::{Applied, ApplyError, Change, Draft, Kept, Mode, Place, perform};
use crate::hands::Programs;
use crate::recover::Happened;
use crate::session::{Assumption, Scene};
use crate::world::World;

/// A verb of a program.
pub(crate) fn serve(
    scene: &mut Scene<'_>,
    mode: &mut dyn Mode,
    label: &Label,
    call: ProgramCall,
) -> Result<Reply, Denial> {
    let ProgramCall::Run { slots } = call;
    let bound = scene.grants.program(label.as_str())?;
    if !bound.grant.changes {
        let program = bound.fill(&slots)?.program;
        return run(scene.world, label, &program).map(Reply::Program);
    }
    let mut change = Run { label: label.clone(), slots, output: None };
    perform(scene, mode, &mut change)?;
    let assumed = ProgramOutput {
        ending: ProgramEnding::Exited { code: 0 },
        stdout: Blob::default(),
        stderr: Blob::default(),
        cut: false,
        assumed: true,
    };
    Ok(Reply::Program(change.output.unwrap_or(assumed)))
}

fn hand<'w>(world: &'w World, label: &Label, attempted: &str) -> Result<&'w dyn Programs, Denial> {
    let missing = || Denial::new(DenialCause::Unavailable, label, "programs", attempted);
    world.hands.programs.as_deref().ok_or_else(missing)
}

/// The file is what root installed, in every part of its path, and the jail holds what it says.
fn check(label: &Label, program: &ProgramSpec) -> Result<(), Denial> {
    check_all(program).map_err(|error| {
        Denial::new(DenialCause::Unavailable, label, "program", format!("run {program}: {}", chain(&error)))
    })
}

/// Runs one that only looks.
fn run(world: &World, label: &Label, program: &ProgramSpec) -> Result<ProgramOutput, Denial> {
    let attempted = format!("run {program}");
    let hand = hand(world, label, &attempted)?;
    check(label, program)?;
    hand.run(program).map_err(|error| error.denial(label, "programs", &attempted))
}

/// One run that changes something.
struct Run {
    label: Label,
    slots: Vec<(String, SlotValue)>,
    output: Option<ProgramOutput>,
}

impl Run {
    fn filled(&self, bound: &BoundProgram) -> Result<(Filled, ProgramEffect), Denial> {
        let filled = bound.fill(&self.slots)?;
        let effect = ProgramEffect {
            label: self.label.clone(),
            program: filled.program.clone(),
            idempotent: bound.grant.idempotent,
        };
        Ok((filled, effect))
    }
}

impl Change for Run {
    fn draft(&mut self, scene: &mut Scene<'_>) -> Result<Draft, Denial> {
        let bound = scene.grants.program(self.label.as_str())?;
        let (filled, effect) = self.filled(bound)?;
        hand(scene.world, &self.label, &effect.to_string())?;
        check(&self.label, &filled.program)?;
        let class = match &filled.undo {
            Some(undo) => UndoClass::Compensated { inverse: format!("run {undo}") },
            None => UndoClass::Irreversible { reason: "the grant names no program that takes it back".to_owned() },
        };
        let effect = Effect::Program(effect);
        Ok(Draft {
            bound: effect.clone(),
            effect,
            class,
            guards: vec![Guard::TrustedProgram],
            before: Observed::Program(None),
            reproducible: bound.reproducible,
            traffic_share: None,
            count: 0,
            assumption: Assumption::Nothing,
        })
    }

    fn recheck(&mut self, scene: &mut Scene<'_>) -> Result<(), Denial> {
        let bound = scene.grants.program(self.label.as_str())?;
        check(&self.label, &self.filled(bound)?.0.program)
    }

    fn keep(&mut self, scene: &mut Scene<'_>, _place: &Place) -> Result<Kept, Denial> {
        let bound = scene.grants.program(self.label.as_str())?;
        let undo = match self.filled(bound)?.0.undo {
            Some(inverse) => Undo::RunProgram { inverse },
            None => Undo::Nothing { reason: "the grant names no program that takes it back".to_owned() },
        };
        Ok(Kept { before: Observed::Program(None), undo })
    }

    fn apply(&mut self, scene: &mut Scene<'_>, _kept: &Kept) -> Result<Applied, ApplyError> {
        let bound = scene.grants.program(self.label.as_str()).map_err(ApplyError::Denied)?;
        let (filled, effect) = self.filled(bound).map_err(ApplyError::Denied)?;
        let attempted = effect.to_string();
        let hand = hand(scene.world, &self.label, &attempted).map_err(ApplyError::Denied)?;
        match hand.run(&filled.program) {
            // How it ended says nothing sure about what it did: verification does. A program that was killed at its deadline
            // was killed in the middle of something.
            Ok(ProgramOutput { ending: ProgramEnding::TimedOut, .. }) => {
                let denial = Denial::new(DenialCause::Failed, &self.label, "timeout", attempted);
                Err(ApplyError::Ambiguous(denial))
            }
            Ok(output) => {
                let after = Observed::Program(Some(output.ending));
                self.output = Some(output);
                Ok(Applied { after, bytes: 0 })
            }
            Err(error) => {
                let denial = error.denial(&self.label, "programs", &attempted);
                Err(if error.may_have_happened() { ApplyError::Ambiguous(denial) } else { ApplyError::Denied(denial) })
            }
        }
    }
}

/// Asks the world whether the intent's effect happened: only the program knows.
pub(crate) fn observe(effect: &ProgramEffect) -> Happened {
    Happened::Unknown { reason: format!("nothing tells whether it happened: {effect}") }
}

/// Runs the program that the grant names as the inverse; also where it is not known how far the first one came.
pub(crate) fn take_back(world: &World, inverse: &ProgramSpec) -> UndoOutcome {
    let failed = |reason: String| UndoOutcome::Failed { reason };
    let Some(hand) = world.hands.programs.as_deref() else {
        return failed("nothing is there that could run the inverse program".to_owned());
    };
    if let Err(error) = check_all(inverse) {
        return failed(chain(&error));
    }
    match hand.run(inverse) {
        Ok(ProgramOutput { ending: ProgramEnding::Exited { code: 0 }, .. }) => UndoOutcome::Restored,
        Ok(output) => failed(format!("run {inverse}: {}", output.ending)),
        Err(error) => failed(format!("run {inverse}: {error}")),
    }
}
