/** The screen of a computer in this tab: a canvas, with keys and mouse. */
import type { JSX } from 'preact';
import { useEffect, useMemo, useRef, useState } from 'preact/hooks';
import type { TabComputer } from '../../../browser/tab-computer.js';
import { pixelsOf, textOf } from '../../../machine/screen.js';
import { MouseSender, mouseEvents } from './mouse.js';
import { ScreenFrame } from './screen-frame.js';

interface TabScreenProps {
  readonly name: string;
  readonly computer: TabComputer;
}

/** Time between two looks at the screen, in ms. */
const lookMs = 100;

export function TabScreen({ name, computer }: TabScreenProps): JSX.Element {
  const canvas = useRef<HTMLCanvasElement>(null);
  const [text, setText] = useState<readonly string[]>([]);
  useEffect(() => {
    let over = false;
    let timer: ReturnType<typeof setTimeout> | undefined;
    const look = async (): Promise<void> => {
      const picture = await computer.look().catch(() => undefined);
      if (over) return;
      if (picture && canvas.current) {
        paint(canvas.current, pixelsOf(picture));
        setText(textOf(picture));
      }
      timer = setTimeout(() => void look(), lookMs);
    };
    void look();
    return () => {
      over = true;
      clearTimeout(timer);
    };
  }, [computer]);
  const mouse = useMemo(() => mouseEvents(new MouseSender((move) => computer.sendMouse(move))), [computer]);
  return (
    <ScreenFrame name={name} text={text} onKeys={(keys) => void computer.type(keys).catch(() => undefined)} takesMouse>
      <canvas ref={canvas} width={640} height={400} class="takes-mouse" {...mouse} />
    </ScreenFrame>
  );
}

interface Pixels {
  readonly width: number;
  readonly height: number;
  readonly rgb: Uint8Array;
}

function paint(canvas: HTMLCanvasElement, { width, height, rgb }: Pixels): void {
  if (width === 0 || height === 0) return;
  if (canvas.width !== width) canvas.width = width;
  if (canvas.height !== height) canvas.height = height;
  const image = new ImageData(width, height);
  for (let from = 0, to = 0; from < rgb.length; from += 3, to += 4) {
    image.data[to] = rgb[from]!;
    image.data[to + 1] = rgb[from + 1]!;
    image.data[to + 2] = rgb[from + 2]!;
    image.data[to + 3] = 255;
  }
  canvas.getContext('2d')?.putImageData(image, 0, 0);
}
