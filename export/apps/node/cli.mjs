/** Runs a program; an error is one line on stderr, without a stack trace. */

/**
 * @param {string} usage one line
 * @param {number} count expected number of arguments
 * @param {(...args: string[]) => Promise<number>} body returns the exit code
 */
export async function main(usage, count, body) {
  const args = process.argv.slice(2);
  if (args.length !== count) {
    console.error(`usage: ${usage}`);
    process.exitCode = 2;
    return;
  }
  try {
    process.exitCode = await body(...args);
  } catch (error) {
    console.error(`error: ${error.message.replaceAll(/\s+/g, ' ')}`);
    process.exitCode = 1;
  }
}
