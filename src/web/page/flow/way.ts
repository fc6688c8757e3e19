/**
 * The way of a command as the picture draws it: [SYS] fig. 1 with the legs of fig. 4, 5, 8 and 10.
 * Two layouts of the same parts: wide, and tall for a phone.
 */
import type { PartName } from './command.js';

export type BoxKind = 'computer' | 'system' | 'farbus' | 'part' | 'logical' | 'disk';

export interface Box {
  readonly name: string;
  readonly kind: BoxKind;
  readonly x: number;
  readonly y: number;
  readonly width: number;
  readonly height: number;
  readonly title: string;
  /** Lines below the title. */
  readonly notes?: readonly string[];
  /** The title of a box with others in it is at its top, unless this is true. */
  readonly titleBelow?: boolean;
}

export type LegName = 'call' | 'trap' | 'issue' | 'send' | 'serve' | 'disk' | 'reply' | 'done';

/** One leg of the way, in its order. */
export interface Leg {
  readonly name: LegName;
  /** Its steps for a read and for a write. */
  readonly read: string;
  readonly write: string;
  /** The part whose time it belongs to. */
  readonly part: PartName | undefined;
  /** The box that is lit with it. */
  readonly box: string;
  readonly says: { readonly read: string; readonly write: string; readonly other: string };
}

export const legs: readonly Leg[] = [
  {
    name: 'call',
    read: '210–212',
    write: '360–362',
    part: undefined,
    box: 'driver',
    says: {
      read: 'An application reads a file. Its operating system calls the driver of the disk, as always.',
      write: 'An application writes a file. Its operating system calls the driver of the disk, as always.',
      other: 'The operating system calls the driver of the disk, as always.',
    },
  },
  {
    name: 'trap',
    read: '213, 214',
    write: '363, 214',
    part: 'computer',
    box: 'logical',
    says: {
      read: 'The driver writes to a register of the disk. No disk is there: the access leaves the guest.',
      write: 'The driver writes to a register of the disk. No disk is there: the access leaves the guest.',
      other: 'The driver writes to a register of the disk. No disk is there: the access leaves the guest.',
    },
  },
  {
    name: 'issue',
    read: '303, 261',
    write: '303, 261',
    part: 'computer',
    box: 'client',
    says: {
      read: 'The hypervisor sees that the register issues commands, and that this one is a read.',
      write: 'The hypervisor sees that the register issues commands, and that this one is a write.',
      other: 'The hypervisor sees that the register issues commands, and which one this is.',
    },
  },
  {
    name: 'send',
    read: '262, 280',
    write: '264, 265',
    part: 'network',
    box: 'server',
    says: {
      read: 'The virtual I/O client sends the command: which sectors, and how many.',
      write: 'The virtual I/O client sends the command, and then the data.',
      other: 'The virtual I/O client sends the command.',
    },
  },
  {
    name: 'serve',
    read: '281, 288',
    write: '281, 285',
    part: 'network',
    box: 'server',
    says: {
      read: 'The virtual I/O server finds the disk that is meant, and checks the command.',
      write: 'The virtual I/O server finds the disk that is meant, checks the command and receives the data.',
      other: 'The virtual I/O server finds the disk that is meant, and checks the command.',
    },
  },
  {
    name: 'disk',
    read: '282, 283',
    write: '286, 287',
    part: 'disk',
    box: 'disk',
    says: { read: 'The real disk reads.', write: 'The real disk writes.', other: 'The real disk carries it out.' },
  },
  {
    name: 'reply',
    read: '284, 263',
    write: '265',
    part: 'network',
    box: 'client',
    says: {
      read: 'The data comes back over the network.',
      write: 'The answer comes back over the network.',
      other: 'The answer comes back over the network.',
    },
  },
  {
    name: 'done',
    read: 'end',
    write: 'end',
    part: 'completion',
    box: 'driver',
    says: {
      read: 'The data is in the guest’s memory, and an interrupt tells the driver. It saw an ordinary disk.',
      write: 'An interrupt tells the driver that the data is written. It saw an ordinary disk.',
      other: 'An interrupt tells the driver that it is done. It saw an ordinary disk.',
    },
  },
];

/** The names of the times. */
export const partTitles: Readonly<Record<PartName, string>> = {
  computer: 'Trap and hypervisor',
  network: 'Network and server',
  disk: 'Real disk',
  completion: 'Back to the driver',
};

export interface Label {
  readonly x: number;
  readonly y: number;
  readonly anchor: 'start' | 'middle' | 'end';
}

export interface Layout {
  readonly width: number;
  readonly height: number;
  readonly boxes: readonly Box[];
  /** The lines of each leg, each with an arrow. `serve` has none: it stays within its box. */
  readonly lines: Readonly<Partial<Record<LegName, readonly string[]>>>;
  /** The place of each time. */
  readonly times: Readonly<Record<PartName, Label>>;
  readonly network: Label;
}

const systemNotes = ['unmodified'];

export const wide: Layout = {
  width: 1120,
  height: 432,
  boxes: [
    { name: 'client-computer', kind: 'computer', x: 6, y: 6, width: 430, height: 420, title: 'Client computer' },
    {
      name: 'client-system',
      kind: 'system',
      x: 24,
      y: 46,
      width: 394,
      height: 132,
      title: 'Operating system',
      notes: systemNotes,
    },
    {
      name: 'application',
      kind: 'part',
      x: 40,
      y: 96,
      width: 150,
      height: 66,
      title: 'Application',
      notes: ['uses a file'],
    },
    {
      name: 'driver',
      kind: 'part',
      x: 252,
      y: 96,
      width: 150,
      height: 66,
      title: 'Driver',
      notes: ['the system’s own'],
    },
    { name: 'client-farbus', kind: 'farbus', x: 24, y: 212, width: 394, height: 198, title: 'Hypervisor' },
    {
      name: 'logical',
      kind: 'logical',
      x: 252,
      y: 230,
      width: 150,
      height: 66,
      title: 'Logical disk',
      notes: ['registers only'],
    },
    {
      name: 'client',
      kind: 'part',
      x: 252,
      y: 330,
      width: 150,
      height: 66,
      title: 'Virtual I/O client',
      notes: ['sends the command'],
    },
    { name: 'server-computer', kind: 'computer', x: 684, y: 6, width: 430, height: 420, title: 'Server computer' },
    {
      name: 'server-system',
      kind: 'system',
      x: 702,
      y: 46,
      width: 394,
      height: 132,
      title: 'Operating system',
      notes: ['unmodified; any kind will do'],
    },
    {
      name: 'server-farbus',
      kind: 'farbus',
      x: 702,
      y: 212,
      width: 394,
      height: 198,
      title: 'farbus serve, or a hypervisor',
    },
    {
      name: 'server',
      kind: 'part',
      x: 718,
      y: 330,
      width: 150,
      height: 66,
      title: 'Virtual I/O server',
      notes: ['executes it'],
    },
    {
      name: 'disk',
      kind: 'disk',
      x: 948,
      y: 286,
      width: 132,
      height: 110,
      title: 'Real disk',
      notes: ['file or device'],
    },
  ],
  lines: {
    call: ['M190 129 H246'],
    trap: ['M352 162 V224'],
    issue: ['M352 296 V324'],
    send: ['M402 350 H712'],
    disk: ['M868 350 H942', 'M948 376 H874'],
    reply: ['M718 376 H408'],
    done: ['M300 330 V302', 'M300 230 V168'],
  },
  times: {
    computer: { x: 362, y: 200, anchor: 'start' },
    network: { x: 560, y: 402, anchor: 'middle' },
    disk: { x: 908, y: 340, anchor: 'middle' },
    completion: { x: 290, y: 200, anchor: 'end' },
  },
  network: { x: 560, y: 334, anchor: 'middle' },
};

export const tall: Layout = {
  width: 360,
  height: 764,
  boxes: [
    { name: 'client-computer', kind: 'computer', x: 3, y: 3, width: 354, height: 366, title: 'Client computer' },
    {
      name: 'client-system',
      kind: 'system',
      x: 14,
      y: 38,
      width: 332,
      height: 116,
      title: 'Operating system',
      notes: systemNotes,
    },
    {
      name: 'application',
      kind: 'part',
      x: 26,
      y: 84,
      width: 128,
      height: 58,
      title: 'Application',
      notes: ['uses a file'],
    },
    {
      name: 'driver',
      kind: 'part',
      x: 186,
      y: 84,
      width: 148,
      height: 58,
      title: 'Driver',
      notes: ['the system’s own'],
    },
    { name: 'client-farbus', kind: 'farbus', x: 14, y: 182, width: 332, height: 176, title: 'Hypervisor' },
    {
      name: 'logical',
      kind: 'logical',
      x: 186,
      y: 196,
      width: 148,
      height: 58,
      title: 'Logical disk',
      notes: ['registers only'],
    },
    {
      name: 'client',
      kind: 'part',
      x: 186,
      y: 288,
      width: 148,
      height: 58,
      title: 'Virtual I/O client',
      notes: ['sends the command'],
    },
    {
      name: 'server-computer',
      kind: 'computer',
      x: 3,
      y: 440,
      width: 354,
      height: 320,
      title: 'Server computer',
      titleBelow: true,
    },
    {
      name: 'server-farbus',
      kind: 'farbus',
      x: 14,
      y: 452,
      width: 332,
      height: 184,
      title: 'farbus serve, or a hypervisor',
      titleBelow: true,
    },
    {
      name: 'server',
      kind: 'part',
      x: 186,
      y: 464,
      width: 148,
      height: 58,
      title: 'Virtual I/O server',
      notes: ['executes it'],
    },
    {
      name: 'disk',
      kind: 'disk',
      x: 32,
      y: 466,
      width: 118,
      height: 92,
      title: 'Real disk',
      notes: ['file or device'],
    },
    {
      name: 'server-system',
      kind: 'system',
      x: 14,
      y: 650,
      width: 332,
      height: 66,
      title: 'Operating system',
      notes: ['unmodified; any kind will do'],
    },
  ],
  lines: {
    call: ['M154 113 H180'],
    trap: ['M300 142 V190'],
    issue: ['M300 254 V282'],
    send: ['M300 346 V458'],
    disk: ['M186 484 H156', 'M150 506 H180'],
    reply: ['M230 464 V352'],
    done: ['M230 288 V260', 'M230 196 V148'],
  },
  times: {
    computer: { x: 293, y: 172, anchor: 'end' },
    network: { x: 220, y: 426, anchor: 'end' },
    disk: { x: 91, y: 582, anchor: 'middle' },
    completion: { x: 220, y: 172, anchor: 'end' },
  },
  network: { x: 220, y: 404, anchor: 'end' },
};
