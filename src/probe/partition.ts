/** Presents one partition of a disk as a device. */
import { FarbusError, usageError } from '../base/errors.js';
import type { BlockDevice, RequestOptions } from '../block/device.js';
import { defineFilter } from '../block/filters/definition.js';
import { SliceFilter } from '../block/filters/slice.js';
import { decideDisk } from './disk.js';
import { ProbeReader } from './reader.js';

/**
 * Partition `number` of a disk as a device, which takes over the disk.
 * @throws FarbusError if there is no such partition, or if it exceeds the disk
 */
export async function openPartition(
  device: BlockDevice,
  number: number,
  options: RequestOptions = {},
): Promise<SliceFilter> {
  const reader = ProbeReader.of(device, options);
  const { table } = await decideDisk(reader, device.info.blockSize);
  const partitions = (table?.partitions ?? []).filter(({ extended }) => !extended);
  const partition = partitions.find((one) => one.number === number);
  if (!partition) {
    const there =
      partitions.length === 0
        ? 'none'
        : partitions
            .slice(0, 16)
            .map((one) => one.number)
            .join(', ');
    throw new FarbusError(`the disk has no partition ${number}: it has ${there}; see farbus info`);
  }
  if (partition.start + partition.size > device.info.size) {
    throw new FarbusError(
      `partition ${number} reaches beyond the end of the disk: its table is damaged; see farbus info`,
    );
  }
  return new SliceFilter(device, partition.start, partition.size);
}

export const partitionFilter = defineFilter({
  options: {
    partition: {
      value: 'N',
      about: 'use only partition N (farbus info lists them)',
      parse: (text, name) => {
        const number = Number(text);
        if (!/^\d+$/.test(text) || number < 1 || number > 65535) {
          throw usageError(`${name} ${text}: expected a partition's number; see farbus info`);
        }
        return number;
      },
    },
  },
  open: (device, { partition }, { signal }) =>
    partition === undefined ? device : openPartition(device, partition, { signal }),
});
