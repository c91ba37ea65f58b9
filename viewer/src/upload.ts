/** Taking a file or a folder from the user to the server. */

import { type Read, type Series, announce as announceUpload, forget, read, send } from "./api";
import { announce, byId } from "./dom";

interface Picked {
  name: string; // of the file or the folder
  files: { path: string; file: File }[];
}

export class Uploads {
  private stopper = new AbortController();

  constructor(
    private readonly limit: number,
    private readonly take: (found: Extract<Read, { case: string }>) => Promise<void>,
    private readonly report: (text: string, share: number | null) => void,
    private readonly busy: () => boolean,
    private readonly fail: (problem: unknown) => void,
  ) {
    this.inputs();
    this.drops();
    byId("choose").addEventListener("submit", (event) => {
      event.preventDefault();
      byId("choose").hidden = true;
      void this.finish(byId<HTMLSelectElement>("series").value);
    });
    byId("choose-cancel").addEventListener("click", () => {
      byId("choose").hidden = true;
      forget().catch(this.fail);
    });
  }

  cancel(): void {
    this.stopper.abort();
  }

  private inputs(): void {
    for (const id of ["file", "folder"]) {
      const input = byId<HTMLInputElement>(id);
      for (const button of document.querySelectorAll(`[data-open=${id}]`)) {
        button.addEventListener("click", () => input.click());
      }
      input.addEventListener("change", () => {
        const files = [...(input.files ?? [])];
        const first = files[0];
        if (!first) return;
        const name = first.webkitRelativePath.split("/")[0] || first.name;
        void this.run({
          name,
          files: files.map((file) => ({ path: file.webkitRelativePath || file.name, file })),
        });
        input.value = "";
      });
    }
  }

  private drops(): void {
    let depth = 0; // dragenter and dragleave come for every element on the way
    const mark = (change: number) => {
      depth = Math.max(depth + change, 0);
      document.body.classList.toggle("dropping", depth > 0);
    };
    document.addEventListener("dragenter", () => mark(1));
    document.addEventListener("dragleave", () => mark(-1));
    document.addEventListener("dragover", (event) => event.preventDefault());
    document.addEventListener("drop", (event) => {
      event.preventDefault();
      mark(-depth);
      const entries = [...(event.dataTransfer?.items ?? [])].flatMap((item) => item.webkitGetAsEntry() ?? []);
      if (entries.length) return void this.fromEntries(entries);
      // What a script or another page hands over has no entries.
      const files = [...(event.dataTransfer?.files ?? [])].map((file) => ({ path: file.name, file }));
      if (files.length) void this.run({ name: files[0].path, files });
      else this.fail("Drop a NIfTI file or a DICOM folder from this machine.");
    });
  }

  private async fromEntries(entries: FileSystemEntry[]): Promise<void> {
    try {
      const files = (await Promise.all(entries.map(walk))).flat();
      await this.run({ name: entries[0].name, files });
    } catch (problem) {
      this.fail(problem);
    }
  }

  private async run({ name, files }: Picked): Promise<void> {
    if (this.busy()) return this.fail("Something is going on. Wait until it has ended or cancel it.");
    if (!byId("choose").hidden) {
      byId("choose").hidden = true;
      await forget().catch(this.fail);
    }
    const bytes = files.reduce((sum, { file }) => sum + file.size, 0);
    this.stopper = new AbortController();
    try {
      if (!files.length) throw new Error("The folder is empty. Choose one with DICOM images.");
      if (bytes > this.limit) {
        throw new Error(
          `${name} is larger than the limit of ${Math.round(this.limit / 1e6)} MB. ` +
            "Give its path on the command line, or raise --max-upload.",
        );
      }
      this.report(`Reading ${name}`, 0);
      await announceUpload(name, bytes);
      let sent = 0;
      for (const { path, file } of files) {
        await send(path, file, this.stopper.signal);
        sent += file.size;
        this.report(`Reading ${name}`, sent / bytes);
      }
      await this.finish("");
    } catch (problem) {
      this.report("", null);
      if (!this.stopper.signal.aborted) return this.fail(problem);
      announce("Cancelled");
      await forget().catch(this.fail);
    }
  }

  private async finish(series: string): Promise<void> {
    try {
      const found = await read(series);
      if ("series" in found) this.ask(found.series);
      else await this.take(found);
    } catch (problem) {
      this.fail(problem);
    } finally {
      this.report("", null);
    }
  }

  private ask(series: Series[]): void {
    const options = series.map((s) => {
      const text = `${s.modality} ${s.instances} × ${s.columns}×${s.rows} ${s.description}`;
      return new Option(text, s.uid);
    });
    byId<HTMLSelectElement>("series").replaceChildren(...options);
    byId("choose").hidden = false;
    byId("series").focus();
  }
}

async function walk(entry: FileSystemEntry): Promise<Picked["files"]> {
  const path = entry.fullPath.replace(/^\//, "");
  if (entry.isFile) {
    const file = await new Promise<File>((give, fail) => (entry as FileSystemFileEntry).file(give, fail));
    return [{ path, file }];
  }
  const reader = (entry as FileSystemDirectoryEntry).createReader();
  const found: Picked["files"] = [];
  for (;;) {
    // A reader gives at most a hundred at a time.
    const some = await new Promise<FileSystemEntry[]>((give, fail) => reader.readEntries(give, fail));
    if (!some.length) return found;
    found.push(...(await Promise.all(some.map(walk))).flat());
  }
}
