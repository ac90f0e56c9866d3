import { readdirSync, readFileSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { brotliCompressSync, gzipSync } from "node:zlib";
import vue from "@vitejs/plugin-vue";
import Components from "unplugin-vue-components/vite";
import { ElementPlusResolver } from "unplugin-vue-components/resolvers";
import ElementPlus from "unplugin-element-plus/vite";
import { defineConfig, type Plugin } from "vite";

const BUILT = "../src/hongyan/console"; // part of the program's wheel, served by src/hongyan/doors/console.py

/** Lay .br and .gz beside what compresses, once, instead of at every request. Not in closeBundle, which runs after a failure too. */
function compressed(): Plugin {
  return {
    name: "compressed",
    apply: "build",
    writeBundle() {
      for (const name of readdirSync(BUILT, { recursive: true }) as string[]) {
        if (!/\.(js|css|svg|html|json)$/.test(name)) continue;
        const octets = readFileSync(join(BUILT, name));
        writeFileSync(join(BUILT, `${name}.br`), brotliCompressSync(octets));
        writeFileSync(join(BUILT, `${name}.gz`), gzipSync(octets, { level: 9 }));
      }
    },
  };
}

export default defineConfig({
  base: "/console/",
  plugins: [
    vue(),
    Components({ dts: false, resolvers: [ElementPlusResolver({ importStyle: "css" })] }),
    ElementPlus({}),
    compressed(),
  ],
  build: {
    outDir: BUILT,
    emptyOutDir: true,
    target: "es2022",
    assetsInlineLimit: 0, // the Content-Security-Policy knows no data: but in pictures
    modulePreload: { polyfill: false },
    chunkSizeWarningLimit: 700,
  },
  // `npm run dev` beside a running program; CONSOLE_API says where it is.
  // The examples stand in docs/api.
  server: {
    fs: { allow: [".."] },
    proxy: {
      "/v1": process.env["CONSOLE_API"] ?? "http://127.0.0.1:8080",
    },
  },
});
