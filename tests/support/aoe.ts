/** AoE over a hub: a target for a device, and an initiator. */
import { createSocket } from 'node:dgram';
import type { BlockDevice } from '../../src/block/device.js';
import { Hub, type HubOptions } from '../../src/network/ethernet/hub.js';
import { connectAoe, type AoeInitiator, type AoeOptions } from '../../src/protocol/aoe/initiator/initiator.js';
import { AoeTarget, type AoeTargetOptions } from '../../src/protocol/aoe/target/target.js';

export interface AoePair {
  readonly hub: Hub;
  readonly target: AoeTarget;
  readonly device: AoeInitiator;
  /** Closes the target and the hub. */
  cleanup(): Promise<void>;
}

/** Opens a target for `disk` as shelf 1, slot 2, on a new hub, and an initiator for it. */
export async function aoePair(
  disk: BlockDevice,
  {
    hub: hubOptions,
    target: targetOptions,
    initiator,
  }: {
    readonly hub?: HubOptions;
    readonly target?: Partial<AoeTargetOptions>;
    readonly initiator?: Partial<AoeOptions>;
  } = {},
): Promise<AoePair> {
  const hub = new Hub({ mtu: 9000, ...hubOptions });
  const target = new AoeTarget(hub, disk, { shelf: 1, slot: 2, ...targetOptions });
  const device = await connectAoe(hub, { shelf: 1, slot: 2, ...initiator });
  const cleanup = async (): Promise<void> => {
    await target.close();
    await hub.close();
  };
  return { hub, target, device, cleanup };
}

/** Finds a free UDP port on the loopback interface. */
export async function freeUdpPort(): Promise<number> {
  const socket = createSocket('udp4');
  await new Promise<void>((resolve) => socket.bind(0, '127.0.0.1', resolve));
  const { port } = socket.address();
  await new Promise<void>((resolve) => socket.close(() => resolve()));
  return port;
}
