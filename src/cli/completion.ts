/**
 * Makes completion scripts for bash, zsh and fish from the tables of commands: the names of
 * commands, their options, and the values that an option accepts.
 */
import { usageError } from '../base/errors.js';
import type { Command, Completes, Option } from './table.js';
import { topics } from './topics.js';

const shells: Readonly<Record<string, (commands: readonly Command[]) => string>> = { bash, zsh, fish };

/** @throws FarbusError if the shell is unknown */
export function completionScript(shell: string | undefined, commands: readonly Command[]): string {
  const make = shell !== undefined && Object.hasOwn(shells, shell) ? shells[shell] : undefined;
  if (!make) throw usageError(`farbus completion SHELL: give one of ${Object.keys(shells).join(', ')}`);
  return make(commands);
}

/** Values whose names say that they are paths. */
const pathValues: readonly string[] = ['FILE', 'FOLDER', 'PATH', 'SOURCE'];

function completes({ value = '', choices, completes: own }: Option): Completes {
  return own ?? choices ?? (pathValues.includes(value) ? 'file' : []);
}

function optionWords({ options }: Command): string[] {
  return [...Object.keys(options).map((name) => `--${name}`), '--help'];
}

/** The first words of a command line: commands, and the words that are none but taken. */
function firstWords(commands: readonly Command[]): string[] {
  return [...commands.map(({ name }) => name), 'help', 'completion', '--help', '--version'];
}

function helpWords(commands: readonly Command[]): string[] {
  return [...commands.map(({ name }) => name), ...Object.keys(topics)];
}

/** Quotes a text for all three shells. */
function quoted(text: string): string {
  return `'${text.replaceAll("'", `'\\''`)}'`;
}

function bash(commands: readonly Command[]): string {
  const answer = (how: Completes): string =>
    how === 'file'
      ? 'compopt -o default; COMPREPLY=()'
      : `COMPREPLY=($(compgen -W ${quoted(how.join(' '))} -- "$word"))`;
  const cases = commands.flatMap((command) => {
    const { name, options, operands = [] } = command;
    const values = Object.entries(options).filter(([, { value, alone }]) => value !== undefined && alone === undefined);
    return [
      ...values.map(([option, table]) => `    ${name}:--${option}) ${answer(completes(table))};;`),
      `    ${name}:*)`,
      `      if [[ $word == -* ]]; then ${answer(optionWords(command))}; else ${answer(operands)}; fi;;`,
    ];
  });
  return `# farbus completion for bash: source <(farbus completion bash)
_farbus() {
  local word=\${COMP_WORDS[COMP_CWORD]} before=\${COMP_WORDS[COMP_CWORD-1]}
  if [[ $COMP_CWORD -eq 1 ]]; then ${answer(firstWords(commands))}; return; fi
  case \${COMP_WORDS[1]}:$before in
    help:*) ${answer(helpWords(commands))};;
    completion:*) ${answer(Object.keys(shells))};;
${cases.join('\n')}
  esac
}
complete -F _farbus farbus
`;
}

function zsh(commands: readonly Command[]): string {
  // _arguments reads brackets and colons in a description.
  const plain = (text: string): string => text.replaceAll(/[[\]:]/g, ' ');
  const action = (how: Completes): string => (how === 'file' ? '_files' : `(${how.join(' ')})`);
  const argument = (name: string, option: Option): string => {
    const many = option.multiple ? '*' : '';
    const value = option.value === undefined ? '' : `:${plain(option.value)}:${action(completes(option))}`;
    const joiner = option.value === undefined ? '' : option.alone === undefined ? '=' : '=-';
    return quoted(
      `${many}--${name}${joiner}[${plain(option.about)}]${value && (option.alone === undefined ? value : `:${value}`)}`,
    );
  };
  const cases = commands.map(({ name, options, operands = [] }) => {
    const all = Object.entries(options).map(([option, table]) => argument(option, table));
    return `    ${name}) _arguments ${[...all, quoted(`*:operand:${action(operands)}`)].join(' ')};;`;
  });
  return `#compdef farbus
# farbus completion for zsh: source <(farbus completion zsh)
_farbus() {
  if (( CURRENT == 2 )); then compadd -- ${firstWords(commands).join(' ')}; return; fi
  local name=$words[2]
  shift words; (( CURRENT-- ))
  case $name in
    help) compadd -- ${helpWords(commands).join(' ')};;
    completion) compadd -- ${Object.keys(shells).join(' ')};;
${cases.join('\n')}
  esac
}
compdef _farbus farbus
`;
}

function fish(commands: readonly Command[]): string {
  const first = '__fish_use_subcommand';
  const within = (name: string): string => quoted(`__fish_seen_subcommand_from ${name}`);
  const value = (how: Completes): string =>
    how === 'file' ? '-r -F' : how.length > 0 ? `-x -a ${quoted(how.join(' '))}` : '-x';
  const lines = commands.flatMap(({ name, summary, options, operands = [] }) => [
    `complete -c farbus -n ${first} -f -a ${name} -d ${quoted(summary)}`,
    ...(operands === 'file' ? [`complete -c farbus -n ${within(name)} -F`] : []),
    ...Object.entries(options).map(([option, table]) => {
      const takes = table.value === undefined || table.alone !== undefined ? '' : ` ${value(completes(table))}`;
      return `complete -c farbus -n ${within(name)} -l ${option}${takes} -d ${quoted(table.about)}`;
    }),
  ]);
  return `# farbus completion for fish: farbus completion fish | source
complete -c farbus -f
complete -c farbus -n ${first} -a 'help completion'
complete -c farbus -n ${within('help')} -a ${quoted(helpWords(commands).join(' '))}
complete -c farbus -n ${within('completion')} -a ${quoted(Object.keys(shells).join(' '))}
${lines.join('\n')}
`;
}
