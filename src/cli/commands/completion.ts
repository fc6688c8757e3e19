/** `farbus completion`: prints the script by which a shell completes command lines of farbus. */
import { usageError } from '../../base/errors.js';
import { defineCommand } from '../command.js';
import { completionScript, shellNames } from '../completion.js';
import type { Given, Options, Program } from '../table.js';
import type { CliIo } from '../ui/io.js';

const options = {} as const satisfies Options;

export const command = defineCommand({
  name: 'completion',
  summary: 'print completion for bash, zsh or fish',
  usage: ['bash|zsh|fish'],
  about: `
    Prints a script by which the shell completes the names of commands, their options, the words that an option accepts,
    and filters after a source. Load it where the shell starts.`,
  options,
  examples: [
    'source <(farbus completion bash)',
    'farbus completion fish | source',
    'farbus completion bash > ~/.local/share/bash-completion/completions/farbus',
  ],
  pages: ['commands'],
  operands: shellNames,
  run,
});

async function run({ operands }: Given<typeof options>, io: CliIo, program: Program): Promise<number> {
  const [shell, more] = operands;
  if (more !== undefined) throw usageError(`farbus completion takes one shell, and ${more} is a second`);
  io.stdout.write(completionScript(shell, await program.commands()));
  return 0;
}
