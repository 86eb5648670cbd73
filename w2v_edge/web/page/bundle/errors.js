/** An error that the user can fix: one line that says what was found and what to do. */
export class UserError extends Error {
  name = 'UserError';
}
