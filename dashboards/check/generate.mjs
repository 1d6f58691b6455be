// Turns a dashboard into a TypeScript module whose literals tsc compares with Grafana's own types: the dashboard as a
// whole, and the options of each panel with those of its plugin. Usage: node generate.mjs DASHBOARD > check.ts
import { readFileSync } from "node:fs";

const dashboard = JSON.parse(readFileSync(process.argv[2], "utf8"));
const literal = (value) => JSON.stringify(value, null, 1);
const raw = "./node_modules/@grafana/schema/dist/types/raw";
const plugins = new Map([
  ["bargauge", "bargauge"],
  ["heatmap", "heatmap"],
  ["stat", "stat"],
  ["timeseries", "timeseries"],
]);

const lines = [
  `import type { Dashboard, Panel, RowPanel } from "${raw}/dashboard/x/types.gen";`,
  'import type { GraphFieldConfig } from "@grafana/schema";',
];
for (const [type, folder] of plugins)
  lines.push(`import type { Options as ${type} } from "${raw}/composable/${folder}/panelcfg/x/types.gen";`);
// Enums become the values that JSON has for them.
lines.push(
  "type Json<T> = T extends string ? `${T}`",
  "  : T extends number ? (`${T}` extends `${infer N extends number}` ? N : never)",
  "  : T extends boolean | null | undefined ? T",
  "  : T extends Array<infer E> ? Json<E>[]",
  "  : { [K in keyof T]: Json<T[K]> };",
);
const { panels, ...rest } = dashboard;
lines.push(`export const dashboard: Json<Dashboard> = ${literal(rest)};`);
const ids = new Set();
for (const panel of panels) {
  if (ids.has(panel.id)) throw new Error(`two panels have the id ${panel.id}`);
  ids.add(panel.id);
  if (panel.type === "row") {
    lines.push(`export const row${panel.id}: Json<RowPanel> = ${literal(panel)};`);
    continue;
  }
  if (!plugins.has(panel.type)) throw new Error(`panel ${panel.id}: teach generate.mjs the type ${panel.type}`);
  lines.push(`export const panel${panel.id}: Json<Panel> = ${literal(panel)};`);
  lines.push(`export const options${panel.id}: Json<${panel.type}> = ${literal(panel.options)};`);
  if (panel.type === "timeseries")
    lines.push(`export const custom${panel.id}: Json<GraphFieldConfig> = ${literal(panel.fieldConfig.defaults.custom)};`);
}
console.log(lines.join("\n"));
