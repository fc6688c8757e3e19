/** The section "Computers": those in this tab, and those that run beside the server. */
import type { JSX } from 'preact';
import { useEffect, useState } from 'preact/hooks';
import type { ComputerInfo } from '../state/contract.js';
import { get } from '../state/request.js';
import { FarComputer } from './far-computer.js';

/** Time between two looks at the computers, in ms. */
const lookMs = 2500;

export function Computers(): JSX.Element {
  const [far, setFar] = useState<readonly ComputerInfo[] | undefined>(undefined);
  const [why, setWhy] = useState('');
  const look = async (): Promise<void> => {
    try {
      setFar(await get<readonly ComputerInfo[]>('api/computers'));
      setWhy('');
    } catch (error) {
      setWhy(error instanceof Error ? error.message : String(error));
    }
  };
  useEffect(() => {
    void look();
    const timer = setInterval(() => void look(), lookMs);
    return () => clearInterval(timer);
  }, []);
  return (
    <div class="section">
      <header>
        <h1>Computers</h1>
        <p class="lead">The computers of farbus run and of running sites beside this server.</p>
      </header>
      {why !== '' && far === undefined && <p class="notice bad">{why}</p>}
      {far?.length === 0 && (
        <p class="notice">
          No computer runs now. Start one with <code>farbus run</code>, or a site with <code>farbus up</code>.
        </p>
      )}
      {far?.map((info) => (
        <FarComputer info={info} onChange={() => void look()} key={info.name} />
      ))}
    </div>
  );
}
