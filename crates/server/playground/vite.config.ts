import { defineConfig } from "vite";

export default defineConfig({
  // The page is /playground, without a slash at its end: relative addresses would miss the assets.
  base: "/playground/",
  build: {
    target: "es2022",
    sourcemap: false,
    // Every browser that can run GraphiQL preloads modules by itself.
    modulePreload: { polyfill: false },
    reportCompressedSize: false,
    chunkSizeWarningLimit: 4096,
    license: { fileName: "LICENSES.md" },
    rolldownOptions: {
      // React libraries mark their modules for bundlers of server components; nothing of that kind here.
      checks: { moduleLevelDirective: false },
    },
  },
  server: {
    // `npm run dev` against a server that is running on its default address.
    proxy: {
      "/graphql": { target: "http://127.0.0.1:8080", ws: true },
    },
  },
});
