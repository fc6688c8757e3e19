/**
 * Order of the test files: the longest first, so that none of them runs alone at the end while the
 * other workers have nothing to do. Measured on two cores; a file that is missing here runs later.
 */
import { relative } from 'node:path';
import { BaseSequencer, type TestSpecification } from 'vitest/node';

const longest = [
  'boot/bare-system',
  'boot/server-computer',
  'boot/kvm',
  'conformance/aoe',
  'boot/client-computer',
  'boot/exchange',
  'boot/exec',
  'boot/ahci',
  'interop/ghost-restart',
  'interop/ssh-kill',
  'interop/copy',
  'boot/site',
  'interop/hostile-servers',
  'interop/replaced',
  'interop/nbd-initiator-reconnect',
  'boot/diskless',
  'conformance/ssh-dd',
  'unit/aoe-initiator',
  'interop/nbd-initiator',
  'interop/ssh-faults',
  'boot/mach',
  'boot/matrix',
  'boot/demo',
  'interop/serve-operations',
  'interop/nbd-target-serve',
  'interop/hostile-ssh',
  'interop/serve-stop',
  'interop/attach-boot',
  'boot/tools',
].map((name) => `tests/${name}.test.ts`);

export class LongestFirst extends BaseSequencer {
  override async sort(files: TestSpecification[]): Promise<TestSpecification[]> {
    const rank = (file: TestSpecification): number => {
      const at = longest.indexOf(relative(this.ctx.config.root, file.moduleId));
      return at < 0 ? longest.length : at;
    };
    const group = (file: TestSpecification): number => file.project.config.sequence.groupOrder;
    // The usual order within equal ranks: sort() is stable.
    return (await super.sort(files)).sort((a, b) => group(a) - group(b) || rank(a) - rank(b));
  }
}
