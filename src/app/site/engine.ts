/** The engine of a site's computer: the site file's choice, the computer's needs, and this host. */
import { FarbusError, messageOf } from '../../base/errors.js';
import type { ComputerPlan } from '../../site/plan.js';
import { checkMachine, chooseEngine, type EngineChoice } from '../computer/engine-choice.js';

/** Parts of a computer's plan that the KVM engine cannot do yet, in the words of the site file. */
export function beyondKvm({ system, drives }: ComputerPlan): string[] {
  const ide = drives.some((drive) => drive.kind === 'text' && drive.bus === 'ide');
  return [...(system.debian === 11 && system.kernel === undefined ? ['debian: 11'] : []), ...(ide ? ['bus=ide'] : [])];
}

/**
 * Chooses the engine of a computer.
 * @throws FarbusError if it cannot be used here, or cannot do what the plan says
 */
export function engineOf(plan: ComputerPlan, env: NodeJS.ProcessEnv): EngineChoice {
  try {
    const { bios, kernel, initrd } = plan.system;
    const { memory, processors } = plan;
    const choice = chooseEngine(plan.engine, env, { lacks: beyondKvm(plan), bios, kernel, initrd, memory });
    checkMachine(choice, memory ?? 0, processors);
    return choice;
  } catch (error) {
    const kind = error instanceof FarbusError ? error.kind : 'failed';
    throw new FarbusError(`${plan.name}: ${messageOf(error)}`, { kind, cause: error });
  }
}
