// What the page uses of the libraries that its import map names: no more than their shapes, so that no types of theirs
// have to be installed.

declare module "preact" {
  export function h(type: any, props: any, ...children: any[]): any;
  export function render(what: any, where: Element): void;
}
declare module "preact/hooks" {
  type Effect = () => void | (() => unknown);
  export function useEffect(effect: Effect, inputs?: readonly unknown[]): void;
  export function useLayoutEffect(effect: Effect, inputs?: readonly unknown[]): void;
  export function useMemo<T>(make: () => T, inputs?: readonly unknown[]): T;
  export function useRef<T>(value: T): { current: T };
  export function useState<T>(value: T | (() => T)): [T, (next: T | ((known: T) => T)) => void];
}
declare module "@preact/signals" {
  export interface Signal<T> {
    value: T;
    peek(): T;
    subscribe(told: (value: T) => void): () => void;
  }
  export function signal<T>(value: T): Signal<T>;
  export function computed<T>(of: () => T): Readonly<Signal<T>>;
  export function useSignalEffect(run: () => unknown): void;
  export function effect(run: () => unknown): () => void;
  export function batch<T>(run: () => T): T;
}
declare module "htm" {
  const htm: { bind(h: any): (strings: TemplateStringsArray, ...values: any[]) => any };
  export default htm;
}
declare module "marked" {
  export class Marked {
    constructor(options?: any);
    use(options: any): void;
    lexer(text: string): any[];
    parser(tokens: any[]): string;
  }
}
declare module "dompurify" {}
declare module "katex" {}
declare module "highlight/core" {
  const core: any;
  export default core;
}
