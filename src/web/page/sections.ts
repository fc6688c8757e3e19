/** The sections of the page, in the order of the navigation. */
import type { ComponentType } from 'preact';
import { Boot } from './boot/boot.js';
import { Computers } from './computers/computers.js';
import { Devices } from './devices/devices.js';
import { lazy } from './base/lazy.js';
import type { IconName } from './parts/icons.js';
import type { PageRights } from './state/contract.js';

// Sections whose code the first visit does not need: the picture of the flow, and the NBD server of
// a tab that lends.
const Flow = lazy(() => import('./flow/flow.js'));
const Lend = lazy(() => import('./lend/lend-section.js'));

export interface Section {
  /** In the fragment of the address. */
  readonly name: string;
  readonly title: string;
  /** The title where there is little room. */
  readonly short: string;
  readonly icon: IconName;
  readonly Content: ComponentType;
  /** It is only for tokens that may lend. */
  readonly lend?: true;
}

export const sections: readonly Section[] = [
  { name: 'devices', title: 'Devices', short: 'Devices', icon: 'devices', Content: Devices },
  { name: 'computers', title: 'Computers', short: 'Computers', icon: 'computers', Content: Computers },
  { name: 'flow', title: 'The flow', short: 'Flow', icon: 'flow', Content: Flow },
  { name: 'boot', title: 'Boot here', short: 'Boot', icon: 'boot', Content: Boot },
  { name: 'lend', title: 'Lend a file', short: 'Lend', icon: 'lend', Content: Lend, lend: true },
];

/** The sections for a token with these rights. A token for lending has no other right. */
export function sectionsFor({ control, lend }: PageRights): readonly Section[] {
  if (lend && !control) return sections.filter((one) => one.lend);
  return sections.filter((one) => lend || !one.lend);
}
