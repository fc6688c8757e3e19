/**
 * The seam to a guest's network card: frames that its driver sends come out, frames for it go in. The card is the
 * engine's; what stands between it and a network is computer/shared-adapter.ts.
 */

/** What has become of a frame for the card: `full`, it has no room for it now; `off`, its driver does not receive. */
export type CardIntake = 'taken' | 'full' | 'off';

export interface NetworkCard {
  /** Its address, 6 bytes: what the guest's driver finds in it. */
  readonly mac: Uint8Array;
  /** Most bytes of payload that a frame for it may have: 1500. */
  readonly mtu: number;
  /**
   * Called with every frame that the driver sends, within the guest's instruction: it must not throw, and the array is
   * valid during the call only.
   */
  onSend(take: (frame: Uint8Array) => void): void;
  /** Puts a frame into the card and raises its interrupt. Not within an exit. The array may be reused. */
  receive(frame: Uint8Array): CardIntake;
  /** Called, in a turn of its own, when there may be room again after `full`. */
  onRoom(callback: () => void): void;
  /** The vector of the processor that its interrupt comes by; undefined while the guest has not set that up. */
  interruptVector(): number | undefined;
}
