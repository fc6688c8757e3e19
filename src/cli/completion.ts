/**
 * Makes completion scripts for bash, zsh and fish from the tables of commands: the names of
 * commands, their options, the values that an option accepts, and filters after a source.
 */
import { usageError } from '../base/errors.js';
import type { Command, Completes, Option } from './table.js';
import { helpPages, sourceWords } from './topics.js';

export const shellNames = ['bash', 'zsh', 'fish'] as const;

const shells: Readonly<Record<string, (commands: readonly Command[]) => string>> = { bash, zsh, fish };

/** @throws FarbusError if the shell is unknown */
export function completionScript(shell: string | undefined, commands: readonly Command[]): string {
  const make = shell !== undefined && Object.hasOwn(shells, shell) ? shells[shell] : undefined;
  if (!make) throw usageError(`farbus completion SHELL: give one of ${shellNames.join(', ')}`);
  return make(commands);
}

/** Values whose names say that they are paths. */
const pathValues: readonly string[] = ['FILE', 'FOLDER', 'PATH'];

/** The values that a shell offers, with the pages of help as words. */
type Offer = 'file' | 'source' | readonly string[];

function completes({ value = '', choices, completes: own }: Option, commands: readonly Command[]): Offer {
  const named = pathValues.includes(value) ? 'file' : value === 'SOURCE' ? 'source' : [];
  return offer(own ?? choices ?? named, commands);
}

function offer(how: Completes, commands: readonly Command[]): Offer {
  return how === 'page' ? helpPages(commands) : how;
}

function takesValue({ value, alone }: Option): boolean {
  return value !== undefined && alone === undefined;
}

function optionWords({ options }: Command): string[] {
  return [...Object.keys(options).map((name) => `--${name}`), '--help'];
}

/** The first words of a command line: commands, and the options that stand alone. */
function firstWords(commands: readonly Command[]): string[] {
  return [...commands.map(({ name }) => name), '--help', '--version'];
}

/** Quotes a text for all three shells. */
function quoted(text: string): string {
  return `'${text.replaceAll("'", `'\\''`)}'`;
}

function bash(commands: readonly Command[]): string {
  const answer = (how: Offer): string => {
    if (how === 'file') return '_farbus_file';
    return how === 'source' ? '_farbus_source' : `_farbus_words ${quoted(how.join(' '))}`;
  };
  const cases = commands.flatMap((command) => {
    const { name, options, operands = [] } = command;
    const values = Object.entries(options).filter(([, table]) => takesValue(table));
    return [
      ...values.map(([option, table]) => `    ${name}:--${option}) ${answer(completes(table, commands))};;`),
      `    ${name}:*)`,
      `      if [[ $word == -* ]]; then ${answer(optionWords(command))}; else ${answer(offer(operands, commands))}; fi;;`,
    ];
  });
  return `# farbus completion for bash: source <(farbus completion bash)
_farbus_words() { COMPREPLY=($(compgen -W "$1" -- "$word")); }
_farbus_file() { compopt -o default 2>/dev/null; COMPREPLY=(); }
_farbus_source() {
  [[ $word == *,* ]] || { _farbus_file; return; }
  compopt -o nospace 2>/dev/null
  COMPREPLY=($(compgen -P "\${word%,*}," -W ${quoted(sourceWords().join(' '))} -- "\${word##*,}"))
}
_farbus() {
  local at=$COMP_CWORD word=\${COMP_WORDS[COMP_CWORD]}
  # bash splits --NAME=VALUE into three words.
  if [[ $word == = ]]; then word=; elif [[ \${COMP_WORDS[at-1]} == = ]]; then at=$((at - 1)); fi
  if [[ $COMP_CWORD -eq 1 ]]; then ${answer(firstWords(commands))}; return; fi
  case \${COMP_WORDS[1]}:\${COMP_WORDS[at-1]} in
${cases.join('\n')}
  esac
}
complete -F _farbus farbus
`;
}

function zsh(commands: readonly Command[]): string {
  // _arguments reads brackets and colons in a description.
  const plain = (text: string): string => text.replaceAll(/[[\]:]/g, ' ');
  const action = (how: Offer): string => {
    if (how === 'file') return '_files';
    return how === 'source' ? '_farbus_source' : `(${how.join(' ')})`;
  };
  const argument = (name: string, option: Option): string => {
    const many = option.multiple ? '*' : '';
    const value = option.value === undefined ? '' : `:${plain(option.value)}:${action(completes(option, commands))}`;
    const joiner = option.value === undefined ? '' : option.alone === undefined ? '=' : '=-';
    return quoted(
      `${many}--${name}${joiner}[${plain(option.brief ?? option.about)}]${value && (option.alone === undefined ? value : `:${value}`)}`,
    );
  };
  const cases = commands.map(({ name, options, operands = [] }) => {
    const all = Object.entries(options).map(([option, table]) => argument(option, table));
    const operand = quoted(`*:operand:${action(offer(operands, commands))}`);
    return `    ${name}) _arguments ${[...all, quoted('--help[explain this command]'), operand].join(' ')};;`;
  });
  return `#compdef farbus
# farbus completion for zsh: source <(farbus completion zsh)
_farbus_source() {
  if ! compset -P '*,'; then _files; return; fi
  compadd -S '' -- ${sourceWords().join(' ')}
}
_farbus() {
  if (( CURRENT == 2 )); then compadd -- ${firstWords(commands).join(' ')}; return; fi
  local name=$words[2]
  shift words; (( CURRENT-- ))
  case $name in
${cases.join('\n')}
  esac
}
compdef _farbus farbus
`;
}

function fish(commands: readonly Command[]): string {
  const first = '__fish_use_subcommand';
  const within = (name: string): string => quoted(`__fish_seen_subcommand_from ${name}`);
  const sources = `-a '(__farbus_source)'`;
  const value = (how: Offer): string => {
    if (how === 'file') return '-r -F';
    if (how === 'source') return `-r -F ${sources}`;
    return how.length > 0 ? `-x -a ${quoted(how.join(' '))}` : '-x';
  };
  const operand = (how: Offer): string => (how === 'file' ? '-F' : how === 'source' ? `-F ${sources}` : value(how));
  const lines = commands.flatMap(({ name, summary, options, operands = [] }) => [
    `complete -c farbus -n ${first} -f -a ${name} -d ${quoted(summary)}`,
    ...(operands.length > 0 ? [`complete -c farbus -n ${within(name)} ${operand(offer(operands, commands))}`] : []),
    ...Object.entries(options).map(([option, table]) => {
      const takes = takesValue(table) ? ` ${value(completes(table, commands))}` : '';
      const short = table.short === undefined ? '' : ` -s ${table.short}`;
      return `complete -c farbus -n ${within(name)} -l ${option}${short}${takes} -d ${quoted(table.brief ?? table.about)}`;
    }),
  ]);
  return `# farbus completion for fish: farbus completion fish | source
function __farbus_source
  set -l before (string match -r -- '^.*,' (commandline -ct)); or return
  for word in ${sourceWords().join(' ')}
    echo $before$word
  end
end
complete -c farbus -f
complete -c farbus -n ${first} -l help -d 'explain farbus'
complete -c farbus -n ${first} -l version -d 'print the version'
${lines.join('\n')}
`;
}
