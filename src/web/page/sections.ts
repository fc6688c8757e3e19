/** The sections of the page, in the order of the navigation. */
import type { ComponentType } from 'preact';
import { Computers } from './computers/computers.js';
import { Devices } from './devices/devices.js';
import { Flow } from './flow/flow.js';
import type { IconName } from './parts/icons.js';

export interface Section {
  /** In the fragment of the address. */
  readonly name: string;
  readonly title: string;
  readonly icon: IconName;
  readonly Content: ComponentType;
}

export const sections: readonly Section[] = [
  { name: 'devices', title: 'Devices', icon: 'devices', Content: Devices },
  { name: 'computers', title: 'Computers', icon: 'computers', Content: Computers },
  { name: 'flow', title: 'The flow', icon: 'flow', Content: Flow },
];
