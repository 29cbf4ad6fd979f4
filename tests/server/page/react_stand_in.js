/** The part of React that `useStream` needs, for tests without a package registry: a component is a
 * function that is called again when its state has changed. Effects run as in strict mode. */

let current;

function slot(make) {
  const index = current.index++;
  if (index === current.slots.length) current.slots.push(make());
  return current.slots[index];
}

export function useState(initial) {
  const held = slot(() => ({ value: typeof initial === "function" ? initial() : initial }));
  const component = current;
  return [held.value, (value) => {
    held.value = value;
    component.render();
  }];
}

export function useEffect(effect) {
  const component = current;
  slot(() => {
    component.effects.push(effect);
    return {};
  });
}

export function useSyncExternalStore(subscribe, getSnapshot) {
  const component = current;
  slot(() => {
    component.effects.push(() => subscribe(() => component.render()));
    return {};
  });
  return getSnapshot();
}

export class Root {
  slots = [];
  effects = [];
  cleanups = [];
  outputs = [];

  constructor(component) {
    this.component = component;
    this.render();
    for (const effect of this.effects) effect()?.(); // strict mode: mounted, unmounted, mounted
    this.cleanups = this.effects.map((effect) => effect());
  }

  render() {
    current = this;
    this.index = 0;
    this.outputs.push(this.component());
    current = undefined;
  }

  get output() {
    return this.outputs.at(-1);
  }

  unmount() {
    for (const cleanup of this.cleanups) cleanup?.();
  }
}
