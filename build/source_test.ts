import { smokeTests } from "../testing/smoke.ts";

smokeTests("source");
