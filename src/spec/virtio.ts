/**
 * The numbers of Virtual I/O Device (VIRTIO) 1.2 that the network card uses, each with its section:
 * split virtqueues, the PCI transport of the modern interface, and the network device.
 *
 * Not here: packed virtqueues, the legacy interface, offloads, the control queue.
 */

/** §2.1 Device status field. */
export const Status = {
  acknowledge: 1,
  driver: 2,
  driverOk: 4,
  featuresOk: 8,
  needsReset: 64,
  failed: 128,
} as const;

/** §5.1.3 and §6 Feature bits, as numbers of bits. */
export const Feature = { netMtu: 3, netMac: 5, version1: 32 } as const;

/** §2.7.5 Descriptor table: bytes of an entry, and its flags. */
export const descriptorSize = 16;
export const DescriptorFlag = { next: 1, write: 2, indirect: 4 } as const;
/** §2.7.6, §2.7.8: bytes of the flags and the index before the entries of a ring. */
export const ringHeader = 4;
/** §2.7.6 Available ring: bytes of an entry, and the flag of a driver that wants no interrupt. */
export const availableEntry = 2;
export const noInterrupt = 1;
/** §2.7.8 Used ring: bytes of an entry. */
export const usedEntry = 8;

/** §4.1.2: vendor id, and the first device id; the id of the device type is added to it. */
export const pciVendor = 0x1af4;
export const firstPciDevice = 0x1040;
/** §5: device type of a network card. */
export const networkType = 1;

/** §4.1.4 Capabilities: vendor-specific, and the types of the structures that they point to. */
export const vendorCapability = 0x09;
export const Structure = { common: 1, notify: 2, isr: 3, device: 4 } as const;

/** §4.1.4.3 Common configuration: offsets in bytes, and its size. */
export const Common = {
  deviceFeatureSelect: 0x00,
  deviceFeature: 0x04,
  driverFeatureSelect: 0x08,
  driverFeature: 0x0c,
  configVector: 0x10, // 2 bytes
  queueCount: 0x12, // 2 bytes
  status: 0x14, // 1 byte
  generation: 0x15, // 1 byte
  queueSelect: 0x16, // 2 bytes, as the following four
  queueSize: 0x18,
  queueVector: 0x1a,
  queueEnable: 0x1c,
  queueNotifyOffset: 0x1e,
  queueDescriptors: 0x20, // 8 bytes, as the following two
  queueDriver: 0x28,
  queueDevice: 0x30,
  size: 0x38,
} as const;

/** §4.1.4.3: no MSI-X vector is assigned. */
export const noVector = 0xffff;

/** §4.1.4.5 ISR status: a queue, or the configuration, calls for the driver. */
export const Isr = { queue: 1, configuration: 2 } as const;

/** §5.1.2 Queues of a network card without multiple pairs and without a control queue. */
export const NetworkQueue = { receive: 0, transmit: 1 } as const;

/** §5.1.4 Configuration of a network card: offsets in bytes, and its size. */
export const NetworkConfig = { mac: 0, mtu: 10, size: 12 } as const;

/** §5.1.6: bytes of the header before each frame, and the place of its number of buffers. */
export const frameHeader = 12;
export const bufferCountAt = 10;
