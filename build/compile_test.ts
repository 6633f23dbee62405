import { smokeTests } from "../testing/smoke.ts";

smokeTests("binary");
