/** Pages of `farbus help` that explain words which several commands use. */
import { filterOptions } from '../app/filters.js';
import { sourceKinds } from '../app/source-kinds.js';
import { segmentForms } from '../network/ethernet/open.node.js';
import { imageFormats } from '../protocol/qemu/formats.js';
import type { Options, Topic } from './table.js';
import type { Definition } from './ui/wrap.js';

/** A part of a page: a paragraph, terms with their descriptions, or command lines. */
export type TopicPart =
  | string
  | { readonly terms: readonly Definition[]; readonly column?: number }
  | { readonly examples: readonly string[] };

interface TopicPage {
  /** The word of usage lines that it explains. */
  readonly word: string;
  /** One line, for the list of pages. */
  readonly summary: string;
  readonly parts: () => readonly TopicPart[];
}

/** Column of the descriptions of terms that are longer than options. */
const column = 8;

export const topics: Readonly<Record<Topic, TopicPage>> = {
  sources: {
    word: 'SOURCE',
    summary: 'how a SOURCE is written',
    parts: () => [
      'A SOURCE names a disk, near or far. Filters can follow it: SOURCE,NAME=VALUE (farbus help filters).',
      { terms: [...sourceKinds.map(({ form, about }): Definition => [form, about]), ...localForms], column },
      'A drive of farbus run takes these words too:',
      { terms: driveWords, column },
    ],
  },
  filters: {
    word: 'FILTER',
    summary: 'what can stand between a source and its users',
    parts: () => [
      'Filters are applied in this order, from the source to its users. They are options of commands, --NAME VALUE, ' +
        'for all sources of the command; and words after a source, SOURCE,NAME=VALUE, for that source alone. A word ' +
        'after a source takes precedence.',
      {
        terms: Object.entries(filterOptions).map(([name, { value, about, default: usual }]) => [
          value === undefined ? `--${name}` : `--${name} ${value}`,
          usual === undefined ? about : `${about} (default ${usual})`,
        ]),
      },
      {
        examples: [
          'farbus serve disk.img,partition=2,rate=20M',
          'farbus attach ssh://server/dev/sdb --cache sdb.cache --overlay changes.img',
        ],
      },
    ],
  },
  segments: {
    word: 'SEGMENT',
    summary: 'how an Ethernet SEGMENT is written',
    parts: () => [{ terms: segmentForms, column }],
  },
};

const localForms: readonly Definition[] = [
  [
    'PATH',
    'a file or block device of this computer: its bytes. Of a file that is named *.qcow2, *.vmdk, *.vdi, *.vhdx, ' +
      '*.vhd and so on: the disk in that image, by qemu-nbd',
  ],
  [
    'FORMAT:PATH',
    `the disk in an image of that format, whatever its name is: ${imageFormats.join(', ')}; or raw:PATH, the file's bytes`,
  ],
];

const driveWords: readonly Definition[] = [
  ['bus=nvme|ahci|ide', 'the adapter: NVMe (the default), a SATA disk, or one of the two disks of the IDE controller'],
  ['cdrom', 'a CD/DVD drive; empty without a SOURCE'],
  ['removable', 'a removable disk; empty without a SOURCE'],
  ['serial=TEXT', 'the serial number that the guest is told'],
  ['model=TEXT', 'the model that the guest is told'],
];

/** The words that may follow a source, as a shell offers them: `partition=`, `read-only`. */
export function sourceWords(): string[] {
  const filters = Object.entries(filterOptions).map(([name, { value }]) => (value === undefined ? name : `${name}=`));
  return [...filters, ...driveWords.map(([term]) => term.replace(/=.*$/, '='))];
}

/** The filters as options of a command: all, or those in `only`. */
export function filterOptionsOf(only: readonly string[] = Object.keys(filterOptions)): Options {
  return Object.fromEntries(
    Object.entries(filterOptions)
      .filter(([name]) => only.includes(name))
      .map(([name, { value, about, list, choices }]) => [
        name,
        {
          about,
          group: 'filters',
          ...(choices && { completes: choices }),
          ...(value !== undefined && { value }),
          ...(list && { multiple: true as const }),
        },
      ]),
  );
}

/** The words that `farbus help` explains. */
export function helpPages(commands: readonly { readonly name: string }[]): string[] {
  return [...commands.map(({ name }) => name), ...Object.keys(topics)];
}
