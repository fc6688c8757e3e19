/**
 * Claims on frames: by what the hypervisor's own protocols tell their frames from those of the operating system that
 * shares the network adapter with it ([SYS] fig. 9, step 281).
 */

/**
 * `own`: it is for the claim's protocol, and for nobody else. `hidden`: nobody on this computer wants it, and the
 * operating system is not to see it either. `other`: the claim has nothing to do with it.
 */
export type FrameOwner = 'own' | 'hidden' | 'other';

export interface FrameClaim {
  /** For messages and steps: "AoE target 1.0". */
  readonly name: string;
  /** Whose a frame that has arrived is. */
  incoming(frame: Uint8Array): FrameOwner;
  /** Whether a frame that the operating system sends would be taken for one of the claim's own: it is dropped. */
  poses(frame: Uint8Array): boolean;
  /** What tells the frame's command from others, on both computers, for `--trace` (base/steps.ts). */
  tagOf(frame: Uint8Array): number;
}
